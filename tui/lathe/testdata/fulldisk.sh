#!/bin/sh
# Runs a program with a workspace on a disk without room:
#
#	unshare --map-root-user --mount fulldisk.sh FOLDER SIZE FREE PROGRAM ARGUMENT...
#
# FOLDER becomes a disk of SIZE bytes that the file "filler" leaves FREE bytes of.
set -e
folder=$1 size=$2 free=$3
shift 3
mount -t tmpfs -o "size=$size" tmpfs "$folder"
head -c "$((size - free))" /dev/zero >"$folder/filler"
exec "$@"
