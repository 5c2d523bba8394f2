# Removes the folder of a test stack when its owner is gone and the servers have stopped.
# Usage: janitor.sh FOLDER. Standard input brings the pids to wait for, one a line; its end means that the owner is gone.
folder=$1
pids=
while read -r pid; do pids="$pids $pid"; done
tenths=0
for pid in $pids; do
  while kill -0 "$pid" 2>/dev/null && [ "$tenths" -lt 600 ]; do
    tenths=$((tenths + 1))
    sleep 0.1
  done
done
rm -rf -- "$folder"
