# Functions of the element `insecure-docker-registry`. They check DIB_DOCKER_*, print lists, and
# write blocks of TOML.
# shellcheck shell=bash

# For containerd: the directory with one subdirectory of settings for each registry.
REGISTRY_CERTS=/etc/containerd/certs.d
# The directory of the certificates. docker and podman read it; the settings of the others name it.
REGISTRY_CA_ROOT=/etc/docker/certs.d

registry_die() {
    echo "insecure-docker-registry: $*" >&2
    exit 1
}

# Prints the words of a list that is separated by spaces, commas or newlines: sorted, without
# duplicates.
registry_words() {
    tr -s ', \t\n' '\n' <<<"$1" | sed '/^$/d' | LC_ALL=C sort -u
}

registry_is_cidr() {
    [[ $1 == */* && $1 != *://* ]]
}

registry_serves() {
    registry_words "$DIB_DOCKER_RUNTIMES" | grep -qx "$1"
}

# Prints the insecure registries that are hosts. Only docker supports networks.
registry_insecure_hosts() {
    registry_words "$DIB_DOCKER_INSECURE_REGISTRIES" | { grep -v / || true; }
}

registry_mirrors() {
    # Not sorted, because mirrors are in order of preference.
    tr -s ', \t\n' '\n' <<<"$DIB_DOCKER_REGISTRY_MIRRORS" | awk 'NF && !seen[$0]++'
}

# Prints `host:port file` for each certificate of DIB_DOCKER_REGISTRY_CA.
registry_ca_pairs() {
    local pair file
    for pair in $(registry_words "$DIB_DOCKER_REGISTRY_CA"); do
        file=${pair#*=}
        [[ $file == /* ]] || file=/tmp/in_target.d/files/$file
        echo "${pair%%=*} $file"
    done
}

registry_check_host() {
    local variable=$1 host=$2
    [[ $host =~ ^([A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?$ ]] ||
        registry_die "$variable: \`$host\` is not a registry (expected: host, host:port or [address]:port, without scheme and path)"
    [[ ! $host =~ :([0-9]+)$ ]] || ((10#${BASH_REMATCH[1]} >= 1 && 10#${BASH_REMATCH[1]} <= 65535)) ||
        registry_die "$variable: \`$host\` has a port outside 1-65535"
}

registry_check_cidr() {
    local cidr=$1
    [[ $cidr =~ ^([0-9.]+/([0-9]|[12][0-9]|3[0-2])|[0-9A-Fa-f:]+/([0-9]{1,2}|1[01][0-9]|12[0-8]))$ ]] ||
        registry_die "DIB_DOCKER_INSECURE_REGISTRIES: \`$cidr\` is not a network (expected: 192.0.2.0/24 or 2001:db8::/64)"
    registry_serves docker ||
        registry_die "DIB_DOCKER_INSECURE_REGISTRIES: network \`$cidr\` is understood by docker alone, which DIB_DOCKER_RUNTIMES does not name"
}

registry_check_options() {
    local word host file
    for word in $(registry_words "$DIB_DOCKER_RUNTIMES"); do
        [[ $word =~ ^(docker|podman|containerd|buildkit)$ ]] ||
            registry_die "DIB_DOCKER_RUNTIMES: unknown runtime \`$word\` (expected: docker, podman, containerd, buildkit)"
    done
    for word in $(registry_words "$DIB_DOCKER_INSECURE_REGISTRIES"); do
        if registry_is_cidr "$word"; then
            registry_check_cidr "$word"
        else
            registry_check_host DIB_DOCKER_INSECURE_REGISTRIES "$word"
        fi
    done
    for word in $(registry_mirrors); do
        [[ $word =~ ^https?://[^/]+/?$ ]] ||
            registry_die "DIB_DOCKER_REGISTRY_MIRRORS: \`$word\` is not a mirror (expected: http://host:port or https://host:port, without path)"
        host=${word#*://}
        registry_check_host DIB_DOCKER_REGISTRY_MIRRORS "${host%/}"
    done
    for word in $(registry_words "$DIB_DOCKER_REGISTRY_CA"); do
        [[ $word == ?*=?* ]] || registry_die "DIB_DOCKER_REGISTRY_CA: \`$word\` is no pair (expected: host:port=file)"
    done
    while read -r host file; do
        [[ -n $host ]] || continue
        registry_check_host DIB_DOCKER_REGISTRY_CA "$host"
        [[ -f $file ]] ||
            registry_die "DIB_DOCKER_REGISTRY_CA: no file \`$file\` for \`$host\` (a relative path is looked up among the image's \`files\`)"
        grep -q -- '-----BEGIN CERTIFICATE-----' "$file" ||
            registry_die "DIB_DOCKER_REGISTRY_CA: \`$file\` for \`$host\` holds no certificate in PEM form"
        ! registry_insecure_hosts | grep -qxF "$host" ||
            registry_die "\`$host\` has a certificate in DIB_DOCKER_REGISTRY_CA and is named in DIB_DOCKER_INSECURE_REGISTRIES: remove one of them"
    done < <(registry_ca_pairs)
}

# Replaces the block of this element in the file $1 by standard input, or adds the block at the end.
# An empty input removes the block.
registry_block() {
    local file=$1 block text=
    local begin='# BEGIN insecure-docker-registry' end='# END insecure-docker-registry'
    block=$(cat)
    if [[ -f $file ]]; then
        text=$(awk -v begin="$begin" -v end="$end" '
            $0 == begin { inside = 1 } !inside { print } $0 == end { inside = 0 }' "$file")
    fi
    [[ -z $block ]] || text+="${text:+$'\n'}$begin"$'\n'"$block"$'\n'"$end"
    [[ -n $text || -f $file ]] || return 0
    install -d -m 0755 "$(dirname "$file")"
    printf '%s' "${text:+$text$'\n'}" >"$file"
}
