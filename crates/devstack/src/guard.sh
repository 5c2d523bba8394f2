# Runs one server and outlives its owner just long enough to stop it.
# Usage: guard.sh STOP_SIGNAL GRACE_SECONDS PROGRAM ARGS…
# Standard input is the owner's lifeline: its end means that the owner is gone. The server's pid goes to standard
# output, what the server says to standard error.
signal=$1
grace=$2
shift 2
exec 3<&0 </dev/null
"$@" >&2 3<&- &
child=$!
echo "$child"
exec >&2
(
  # Nothing is ever written to the lifeline: this returns at its end.
  read -r _ <&3
  kill -s "$signal" "$child" 2>/dev/null
  tenths=0
  while kill -0 "$child" 2>/dev/null; do
    if [ "$tenths" -ge $((grace * 10)) ]; then kill -s KILL "$child" 2>/dev/null; fi
    tenths=$((tenths + 1))
    sleep 0.1
  done
) &
watcher=$!
exec 3<&-
wait "$child"
code=$?
kill "$watcher" 2>/dev/null
exit "$code"
