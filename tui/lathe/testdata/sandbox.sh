#!/bin/sh
# Runs a program as deploy/lathe.service and deploy/Containerfile would, without systemd or containers:
#
#	unshare --mount --ipc --uts sandbox.sh ROOT PROGRAM STATE KEYS CACHE ARGUMENT...
#
# The program becomes /usr/local/bin/lathe in a root, assembled in the empty folder ROOT, of which only /var/lib/lathe (the
# folder STATE) and /tmp can be written to, with KEYS as /etc/lathe/authorized_keys and CACHE as /usr/local/share/lathe. It
# runs as user 10001 without capabilities or a way to gain any, and sees the usual six devices and its own processes. It is
# the process that ran unshare, for signals and exit statuses.
set -e
root=$1 program=$2 state=$3 keys=$4 cache=$5
shift 5
mount --make-rprivate /
mount -t tmpfs tmpfs "$root"
cd "$root"
mkdir -p usr etc/lathe proc dev tmp var/lib/lathe
for name in bin sbin lib lib64; do
	if [ -L "/$name" ]; then ln -s "$(readlink "/$name")" "$name"; elif [ -d "/$name" ]; then mkdir "$name" && mount --rbind "/$name" "$name" && mount -o remount,bind,ro "$name"; fi
done
mount --bind /usr usr
mount -o remount,bind,ro usr
mount -t tmpfs tmpfs usr/local
mkdir -p usr/local/bin usr/local/share/lathe
install -m 0755 "$program" usr/local/bin/lathe
mount --bind "$cache" usr/local/share/lathe
mount -o remount,bind,ro usr/local/share/lathe
mount -o remount,ro usr/local
echo 'lathe:x:10001:10001::/var/lib/lathe:/usr/sbin/nologin' >etc/passwd
echo 'lathe:x:10001:' >etc/group
cp -r /etc/ld.so.cache /etc/ld.so.conf /etc/ld.so.conf.d etc/ 2>/dev/null || true
install -m 0644 "$keys" etc/lathe/authorized_keys
mount --bind "$state" var/lib/lathe
mount -t tmpfs -o size=1g,mode=1777 tmpfs tmp
for name in null zero full random urandom tty; do
	: >"dev/$name"
	mount --bind "/dev/$name" "dev/$name"
done
mount -t proc -o hidepid=2 proc proc
mount -o remount,ro "$root"
exec prlimit --nofile=4096 --core=0 chroot "$root" /usr/bin/env -i HOME=/var/lib/lathe LATHE_CACHE=/usr/local/share/lathe \
	setpriv --reuid=10001 --regid=10001 --clear-groups --no-new-privs --bounding-set=-all --inh-caps=-all --ambient-caps=-all \
	/usr/local/bin/lathe "$@"
