# contrib/setup.sh: what contrib/quickstart and tests/run share; sourced by bash.
# Installs Debian packages that are missing and builds the tree.  Each function says what it does and does nothing
# that is done already.  The caller sets `me`, its own name.

SD_TOP=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
export LC_ALL=C.UTF-8

SD_BUILD_PACKAGES=(autoconf automake gcc libc6-dev make pkg-config libev-dev libpq-dev libcjson-dev libyaml-dev
	libh2o-evloop-dev libssl-dev libsmartcols-dev libpcre2-dev uthash-dev)
SD_SERVER_PACKAGES=(postgresql-15)

say() { echo "$me: $*"; }
die() { echo "$me: $*" >&2; exit 1; }

# Run a command as root.
as_root() {
	if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

installed() { [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; }

apt() {
	# sudo would drop a proxy from the environment.
	as_root env DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8 ${http_proxy:+http_proxy="$http_proxy"} \
		${https_proxy:+https_proxy="$https_proxy"} apt-get -y -q -o Acquire::Retries=3 -o Dpkg::Use-Pty=0 "$@" \
		</dev/null >>"$apt_log" 2>&1
}

# Install the server package without its habit of making and starting a cluster `main`.  Files put in place for
# that are taken away again; clusters that exist are not touched, nothing is started.
apt_server() {
	local conf=/etc/postgresql-common/createcluster.d/00-stepd-no-main-cluster.conf policy=/usr/sbin/policy-rc.d rc=0
	apt install --no-install-recommends postgresql-common || return
	as_root mkdir -p "${conf%/*}"
	echo "create_main_cluster = false" | as_root tee "$conf" >/dev/null
	if [ "$(pg_conftool /etc/postgresql-common/createcluster.conf show -bs create_main_cluster 2>/dev/null)" != off ]; then
		as_root rm -f "$conf"
		echo "installing it would create a database cluster \"main\"; set create_main_cluster = false" \
			"in /etc/postgresql-common/createcluster.conf, or install it yourself" >>"$apt_log"
		return 1
	fi
	if [ -e "$policy" ]; then policy=; else
		printf '#!/bin/sh\n# made by stepd, removed after the installation: start no service now\nexit 101\n' | as_root tee "$policy" >/dev/null
		as_root chmod 755 "$policy"
	fi
	apt install --no-install-recommends "$@" || rc=$?
	as_root rm -f "$conf" $policy
	return $rc
}

# install_packages PACKAGE…: install those that are missing.
install_packages() {
	local p missing=() server=()
	command -v dpkg-query >/dev/null || { say "not a Debian system: taking for granted that there are: $*"; return; }
	for p; do
		installed "$p" && continue
		case $p in postgresql-[0-9]*) server+=("$p") ;; *) missing+=("$p") ;; esac
	done
	[ ${#missing[@]} -gt 0 ] || [ ${#server[@]} -gt 0 ] || return 0
	say "installing Debian packages: ${missing[*]} ${server[*]}"
	[ "$(id -u)" = 0 ] || command -v sudo >/dev/null ||
		die "not root and no sudo here; as root: apt-get install --no-install-recommends ${missing[*]} ${server[*]}"
	apt_log=$(mktemp /tmp/stepd-apt.XXXXXX)
	{
		apt update
		{ [ ${#missing[@]} = 0 ] || apt install --no-install-recommends "${missing[@]}"; } &&
			{ [ ${#server[@]} = 0 ] || apt_server "${server[@]}"; }
	} || { tail -25 "$apt_log" >&2; die "apt-get failed, its whole log: $apt_log"; }
	rm -f "$apt_log"
}

# unpack_packages DIR PACKAGE…: have what they ship in DIR without installing them or what they depend on.  That a package cannot
# be had is said, and no error.
unpack_packages() {
	local dir=$1 p temp; shift
	for p; do
		[ ! -e "$dir/usr/share/doc/$p" ] && ! installed "$p" || continue
		command -v dpkg-deb >/dev/null || return 0
		say "unpacking the Debian package $p in $dir"
		temp=$(mktemp -d /tmp/stepd-apt.XXXXXX) && chmod 755 "$temp" || return
		apt_log=$temp/log
		(cd "$temp" && apt-get -q download "$p" || { apt update; apt-get -q download "$p"; }) >>"$apt_log" 2>&1 </dev/null
		mkdir -p "$dir"
		dpkg-deb -x "$temp/$p"_*.deb "$dir" 2>>"$apt_log" || { tail -3 "$apt_log" >&2; say "$p is not to be had; its tests are skipped"; }
		rm -rf "$temp"
	done
}

# The sources to build from: the checkout, or a copy of it when ./configure was run in the checkout itself (make
# refuses to build such a tree from another folder).
build_source() {
	local copy=$SD_TOP/build/source
	if [ ! -e "$SD_TOP/config.status" ]; then echo "$SD_TOP"; return; fi
	rm -rf "$copy"; mkdir -p "$copy"
	tar -C "$SD_TOP" --exclude=./.git --exclude='./build' --exclude='./build-asan' --exclude='./build-tsan' --exclude='./build-fuzz' --exclude=__pycache__ -cf - . | tar -C "$copy" -xf -
	make -s -C "$copy" distclean >/dev/null 2>&1
	echo "$copy"
}

# build DIR LOG [CONFIGURE-ARGUMENT…]: configure and make in DIR; again only what changed.
build() {
	local dir=$1 log=$2 src as; shift 2
	mkdir -p "$dir"; : >"$log"
	src=$(build_source)
	# What the configuration in DIR was made from; the test library may have come since.
	as="$src cmocka=$(pkg-config --modversion cmocka 2>/dev/null) $*"
	(
		set -e
		cd "$src"
		if [ ! -x configure ] || [ ! -f Makefile.in ] || [ configure.ac -nt configure ]; then autoreconf -i; fi
		cd "$dir"
		if [ ! -f Makefile ] || [ "$(cat .configured 2>/dev/null)" != "$as" ]; then
			"$src/configure" --quiet "$@"
			echo "$as" >.configured
		fi
		make -j"$(nproc)"
	) >>"$log" 2>&1 </dev/null || { tail -40 "$log" >&2; return 1; }
}
