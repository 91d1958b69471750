# shellcheck shell=bash
# What the scripts of this folder share: the cache of what they brought, the folder of an instance, and processes that
# outlive the script and can be found again. Sourced, never run.
#
# Standard output is for KEY=value lines (and `skipped: reason`); everything that is said to a person goes to standard
# error. Exit codes: 0 done, 1 failed, 77 the component cannot be had on this machine.
set -euo pipefail

real=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
# shellcheck disable=SC2034 # Used by those who source this.
clone=$(cd -- "$real/../.." && pwd)
me=${0##*/}
dir=
# shellcheck disable=SC2034
ready_seconds=${READY_SECONDS:-60}

say() {
    printf '%s: %s\n' "$me" "$*" >&2
}

fail() {
    say "$*"
    exit 1
}

# Not a failure and never a pass: the caller reports the lane as skipped.
skip() {
    printf 'skipped: %s\n' "$*"
    exit 77
}

# leave STATUS SAID: goes on with how a part that was asked in a subshell ended.
leave() {
    printf '%s\n' "$2"
    exit "$1"
}

have() {
    command -v "$1" >/dev/null 2>&1
}

need_linux() {
    [[ "$(uname -s)" == Linux ]] || skip "$me is started on Linux only, and this is $(uname -s)"
    local program
    for program in setsid flock sha256sum; do
        have "$program" || skip "$program is missing (Debian: apt-get install util-linux coreutils)"
    done
}

# Which Java is used: that of JAVA_HOME, else that of PATH.
need_java() {
    local wanted=$1 found
    java=java
    [[ -z "${JAVA_HOME:-}" || ! -x "$JAVA_HOME/bin/java" ]] || java=$JAVA_HOME/bin/java
    have "$java" || skip "Java is missing: $wanted or later is needed (Debian: apt-get install openjdk-$wanted-jre-headless)"
    # "17.0.15" out of: openjdk version "17.0.15" 2025-04-15.
    found=$("$java" -version 2>&1 </dev/null | sed -n 's/.* version "\([0-9]*\).*/\1/p' | head -n 1)
    ((${found:-0} >= wanted)) || skip "Java $wanted or later is needed and $java is ${found:-of no known version}"
}

# --- The cache -------------------------------------------------------------------------------------------------------

# Outside the clone, so that clones share it and `git clean` keeps it.
cache_folder() {
    local base=${XDG_CACHE_HOME:-${HOME:+$HOME/.cache}}
    [[ -n "$base" ]] || fail "neither XDG_CACHE_HOME nor HOME is set: one of them says where downloads are kept."
    printf '%s/worker-agents/real' "$base"
}

# The key of a cached folder says what is pinned, so a changed pin never replaces files under a running process.
cache_key() {
    local name=$1
    shift
    printf '%s-%s' "$name" "$(cat -- "$@" | sha256sum | head -c 8)"
}

# cached LOCK FOLDER FILL: makes FOLDER by calling FILL with a scratch folder, which gets its name last. Whoever is
# interrupted leaves nothing that looks complete, and of two that run at once one waits.
cached() {
    local lock=$1 folder=$2 fill=$3
    [[ ! -d "$folder" ]] || return 0
    mkdir -p -- "${folder%/*}"
    (
        exec 9>"${folder%/*}/.lock-$lock"
        flock 9
        [[ ! -d "$folder" ]] || exit 0
        rm -rf -- "$folder".incoming.*
        scratch=$(mktemp -d -- "$folder.incoming.XXXXXX")
        trap 'rm -rf -- "$scratch"' EXIT
        trap 'exit 129' HUP
        trap 'exit 130' INT
        trap 'exit 143' TERM
        "$fill" "$scratch" 9>&-
        mv -T -- "$scratch" "$folder"
    )
}

# maven GOAL OPTION...: a goal of the dependency plugin, in an empty folder of its own. 2.8 because later ones insist on
# parent poms that are not always published (Apicurio Registry 3.0.9).
maven() {
    local said
    have mvn || skip "Maven is missing, and $me is not in the cache yet (Debian: apt-get install maven)"
    said=$(mvn -B -q "org.apache.maven.plugins:maven-dependency-plugin:2.8:$1" "${@:2}" 2>&1 </dev/null) || {
        printf '%s\n' "$said" >&2
        return 1
    }
}

# check_sums FOLDER LIST: exactly the files of LIST, with the contents of LIST. What Maven was given by a mirror is not
# trusted because it came.
check_sums() {
    local folder=$1 list=$2
    diff <(sed 's/^[0-9a-f]*  //' "$list" | LC_ALL=C sort) <(cd -- "$folder" && printf '%s\n' * | LC_ALL=C sort) >&2 ||
        fail "the downloaded files are not those of $list: see above; a changed version needs a new list."
    (cd -- "$folder" && sha256sum --quiet --strict --check "$list" >&2) ||
        fail "a downloaded file is not what $list expects: see above; look at the mirror it came from."
}

# --- Debian's packages, unpacked and not installed ---------------------------------------------------------------------

# Debian's signature vouches for what apt downloads. A point release removes the version before it, so the key of the cache
# is the version that is there, and no hash is pinned.

# debian_versions PACKAGE...: the versions that are there now.
debian_versions() {
    have apt-get && have dpkg-deb || skip "$me unpacks Debian's packages, and there is no apt-get here"
    local versions
    versions=$(debian_candidates "$@")
    [[ "$versions" != *"(none)"* && -n "$versions" ]] || {
        apt-get update -qq >&2 || skip "the package lists cannot be had: apt-get update"
        versions=$(debian_candidates "$@")
    }
    [[ "$versions" != *"(none)"* && -n "$versions" ]] || skip "Debian's packages $* are not to be had here"
    printf '%s\n' "$versions"
}

debian_candidates() {
    apt-cache policy "$@" 2>/dev/null | sed -n 's/^  Candidate: //p'
}

# debian_unpack FOLDER PACKAGE...
debian_unpack() {
    local folder=$1 package
    shift
    mkdir -- "$folder/packages"
    (cd -- "$folder/packages" && apt-get download -qq "$@" >&2) || skip "$* cannot be downloaded"
    for package in "$folder"/packages/*.deb; do
        dpkg-deb -x "$package" "$folder"
    done
    rm -rf -- "$folder/packages"
}

# need_libraries PROGRAM...: all that they are linked with.
need_libraries() {
    local missing
    missing=$(ldd "$@" 2>/dev/null | sed -n 's/ => not found//p')
    [[ -z "$missing" ]] || skip "libraries are missing:$(tr -s '\n\t' ' ' <<<"$missing")"
}

# --- Go ----------------------------------------------------------------------------------------------------------------

# need_go VERSION WHAT
need_go() {
    local found
    have go || skip "Go is missing, and $2 is not in the cache yet (Go $1 or later is needed)"
    found=$(GOTOOLCHAIN=local go env GOVERSION </dev/null)
    at_least "$1" "${found#go}" || skip "Go $1 or later is needed, and $(command -v go) is $found"
}

# at_least WANTED FOUND: whether version FOUND is WANTED or later.
at_least() {
    [[ "$(printf '%s\n' "$1" "$2" | sort -V | head -n 1)" == "$1" ]]
}

# --- The folder of an instance ---------------------------------------------------------------------------------------

# Says which component owns the folder; only a folder with it is ever removed.
readonly marker=.worker-agents-real

need_dir() {
    [[ -n "$dir" ]] || fail "no folder: --dir D names the folder of the instance."
}

claim_dir() {
    need_dir
    mkdir -p -- "$dir"
    dir=$(cd -- "$dir" && pwd -P)
    [[ "$dir" != *[$'\n\t ,:\\']* ]] ||
        fail "$dir has a character that configuration files give a meaning to: name a folder without blanks, commas, colons and backslashes."
    [[ ! -e "$dir/$marker" ]] || fail "$dir holds an instance already: \`$0 stop --dir $dir\` ends it."
    [[ -z "$(ls -A -- "$dir")" ]] || fail "$dir is not empty: name an empty folder or one that is not there yet."
    # Of two that claim it at once one fails here.
    (set -o noclobber && printf '%s\n' "$me" >"$dir/$marker") 2>/dev/null ||
        fail "$dir has just been taken by another start: name another folder."
}

is_instance() {
    [[ "$(cat -- "$dir/$marker" 2>/dev/null)" == "$me" ]]
}

need_instance() {
    need_dir
    is_instance || fail "$dir holds no $me: \`$0 start --dir $dir\` makes one."
    dir=$(cd -- "$dir" && pwd -P)
}

need_started() {
    [[ -e "$dir/env" ]] || fail "$dir was not started to the end: \`$0 stop --dir $dir\` removes it."
}

# From here to keep_instance a start that fails, or is interrupted, leaves nothing.
begin_instance() {
    claim_dir
    trap abandon EXIT
    trap 'exit 129' HUP
    trap 'exit 130' INT
    trap 'exit 143' TERM
}

abandon() {
    local status=$?
    trap '' HUP INT TERM
    remove_instance
    exit "$status"
}

fail_with_logs() {
    local log
    for log in "$dir"/*/log; do
        [[ ! -s "$log" ]] || printf '%s\n' "--- the end of ${log#"$dir"/}:" "$(tail -n 20 -- "$log")" >&2
    done
    fail "$*: see the logs above."
}

# keep_instance ADDRESSES: one KEY=value a line, values unquoted; the file appears whole.
keep_instance() {
    printf '%s\n' "$1" >"$dir/env.incoming"
    mv -- "$dir/env.incoming" "$dir/env"
    trap - EXIT HUP INT TERM
    cat -- "$dir/env"
}

# Whether or not start came to its end. The marker stays: the folder is still taken. A component whose processes must not
# simply be killed defines `farewell`.
clear_instance() {
    local pid_file
    ! declare -F farewell >/dev/null || farewell
    for pid_file in "$dir"/*/pid; do
        [[ ! -e "$pid_file" ]] || end "${pid_file%/pid}"
    done
    rm -rf -- "${dir:?}"/*
}

remove_instance() {
    clear_instance
    rm -rf -- "$dir"
}

# A folder that is gone was stopped already; one that is not ours is none of our business.
stop_instance() {
    need_dir
    [[ -e "$dir" ]] || return 0
    need_instance
    remove_instance
}

# address KEY: a line of the addresses file.
address() {
    sed -n "s/^$1=//p" "$dir/env"
}

# --- Processes -------------------------------------------------------------------------------------------------------

# spawn FOLDER COMMAND...: in a session of its own, without any file of the caller open (`$(script start)` must return),
# output appended to FOLDER/log. The process notes itself in FOLDER/pid, with the time of its birth: ids are used again.
spawn() {
    local folder=$1
    shift
    rm -f -- "$folder/pid"
    # shellcheck disable=SC2016 # It is the new shell that expands it.
    setsid bash -c '
        for fd in /proc/self/fd/*; do
            fd=${fd##*/}
            ((fd <= 2)) || eval "exec $fd>&-"
        done
        stat=$(</proc/$$/stat)
        read -ra field <<<"${stat##*) }"
        printf "%s %s\n" $$ "${field[19]}" >"$0/pid.incoming"
        mv -- "$0/pid.incoming" "$0/pid"
        exec "$@"
    ' "$folder" "$@" </dev/null >>"$folder/log" 2>&1 &
    while [[ ! -e "$folder/pid" ]] && kill -0 "$!" 2>/dev/null; do
        sleep 0.02
    done
    # The shell is not to report how it ended.
    disown "$!" 2>/dev/null || true
}

# A zombie does not live.
alive() {
    local pid since stat field
    read -r pid since 2>/dev/null <"$1/pid" || return 1
    stat=$(cat "/proc/$pid/stat" 2>/dev/null) || return 1
    read -ra field <<<"${stat##*) }"
    [[ "${field[19]}" == "$since" && "${field[0]}" != [ZX] ]]
}

pid_of() {
    cut -d ' ' -f 1 "$1/pid"
}

# end FOLDER: at once and for sure. What it was writing goes, or is to be as after a crash.
end() {
    local folder=$1
    until ! alive "$folder"; do
        kill -KILL "$(pid_of "$folder")" 2>/dev/null || true
        sleep 0.05
    done
}

# ask FOLDER SIGNAL: tells it to end by itself, and waits for that, but not for ever.
ask() {
    local folder=$1 deadline=$((SECONDS + 15))
    ! alive "$folder" || kill -"$2" "$(pid_of "$folder")" 2>/dev/null || true
    while alive "$folder" && ((SECONDS < deadline)); do
        sleep 0.05
    done
}

# await SECONDS FOLDER COMMAND...: until COMMAND says yes; no when the process of FOLDER is gone or the time is over.
await() {
    local deadline=$((SECONDS + $1)) folder=$2
    shift 2
    until "$@"; do
        alive "$folder" && ((SECONDS < deadline)) || return 1
        sleep 0.2
    done
}

# --- Ports -----------------------------------------------------------------------------------------------------------

# pick_ports N: into the array `ports`. Below the range from which Linux takes the ports of outgoing connections, so that
# one is still free when a killed server comes back for it.
pick_ports() {
    local count=$1 port
    ports=()
    while ((${#ports[@]} < count)); do
        port=$((15000 + RANDOM % 15000))
        if [[ " ${ports[*]} " != *" $port "* ]] && ! (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
            ports+=("$port")
        fi
    done
}

# Another process can take a port between the look and the use; then a start tries again with others.
lost_a_port() {
    grep -qi 'address already in use' "$dir"/*/log 2>/dev/null
}
