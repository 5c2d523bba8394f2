# Puts a folder on a small disk that only one program sees, and becomes that program under the account it is meant for.
# Usage: disk.sh FOLDER MEGABYTES UID GID PROGRAM ARGS…
# The disk is a file system in memory, in a mount namespace of its own; it goes with the program. Beside the folder's
# content it has a file `ballast`, which fills it up when somebody writes into it.
set -e
folder=$1
size=$2
uid=$3
gid=$4
shift 4
mkdir -p "$folder" "$folder.disk"
mount -t tmpfs -o "size=${size}m,mode=0700" tmpfs "$folder.disk"
mkdir -m 0700 "$folder.disk/data"
: >"$folder.disk/ballast"
cp -a "$folder/." "$folder.disk/data"
mount --bind "$folder.disk/data" "$folder"
# Here everybody looks like root, whom Postgres doesn't serve.
exec unshare --user --map-user="$uid" --map-group="$gid" "$@"
