# Functions of the element `hosts`. They turn DIB_HOSTS_* into lines, and write these to /etc/hosts.
# shellcheck shell=bash

HOSTS_BEGIN='# BEGIN entries of the element hosts'
HOSTS_END='# END entries of the element hosts'

hosts_die() {
    echo "hosts: $*" >&2
    exit 1
}

# Prints the path of a file option. A relative path is a name in the `files` of the image.
hosts_file() {
    case $1 in
        /*) echo "$1" ;;
        *) echo "/tmp/in_target.d/files/$1" ;;
    esac
}

hosts_is_ipv4() {
    local octet
    [[ $1 =~ ^([0-9]+)\.([0-9]+)\.([0-9]+)\.([0-9]+)$ ]] || return 1
    for octet in "${BASH_REMATCH[@]:1}"; do
        # A leading zero means octal to some resolvers and decimal to others.
        [[ $octet =~ ^(0|[1-9][0-9]{0,2})$ ]] && ((octet <= 255)) || return 1
    done
}

# RFC 4291, section 2.2: eight groups, one run of zeros as `::`, the last two groups perhaps as
# IPv4.
hosts_is_ipv6() {
    local text=$1 group count=0 groups
    if [[ $text == *.* ]]; then
        hosts_is_ipv4 "${text##*:}" || return 1
        text="${text%:*}:0:0"
    fi
    [[ $text == *:* && $text != *:::* && $text != *::*::* ]] || return 1
    [[ $text =~ ^:[^:] || $text =~ [^:]:$ ]] && return 1
    IFS=: read -ra groups <<<"$text"
    for group in "${groups[@]}"; do
        [[ -n $group ]] || continue
        [[ $group =~ ^[0-9A-Fa-f]{1,4}$ ]] || return 1
        count=$((count + 1))
    done
    if [[ $text == *::* ]]; then ((count <= 7)); else ((count == 8)); fi
}

hosts_is_name() {
    local label='[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?'
    ((${#1} <= 253)) && [[ $1 =~ ^$label(\.$label)*$ ]]
}

# Checks one entry: WHERE ADDRESS NAME...
hosts_check_entry() {
    local where=$1 address=$2 name
    shift 2
    hosts_is_ipv4 "$address" || hosts_is_ipv6 "$address" ||
        hosts_die "$where: \`$address\` is not an IPv4 or IPv6 address (expected: address name [alias...])"
    (($# > 0)) || hosts_die "$where: address \`$address\` has no name (expected: address name [alias...])"
    for name; do
        hosts_is_name "$name" || hosts_die "$where: \`$name\` is not a host name"
    done
    [[ $DIB_HOSTS_LOCALHOST == strict ]] || return 0
    case $address in
        127.0.0.1 | ::1)
            [[ $* == localhost ]] ||
                hosts_die "$where: \`$address\` may be called \`localhost\` alone while DIB_HOSTS_LOCALHOST is \`strict\`"
            ;;
        *)
            [[ " $* " != *' localhost '* ]] ||
                hosts_die "$where: \`$address\` may not be called \`localhost\` while DIB_HOSTS_LOCALHOST is \`strict\`"
            ;;
    esac
}

# Reads entries on standard input and prints them in canonical form. $1 names their origin for
# messages.
hosts_parse() {
    local source=$1 line number=0 fields
    while IFS= read -r line || [[ -n $line ]]; do
        number=$((number + 1))
        line=${line%$'\r'}
        read -ra fields <<<"${line%%#*}"
        ((${#fields[@]} > 0)) || continue
        fields[0]=${fields[0],,}
        hosts_check_entry "$source, entry $number" "${fields[@]}"
        echo "${fields[*]}"
    done
}

# Prints all entries in order, those of the file first, without duplicates.
hosts_entries() {
    local file
    {
        if [[ -n $DIB_HOSTS_FILE ]]; then
            file=$(hosts_file "$DIB_HOSTS_FILE")
            [[ -f $file ]] || hosts_die "DIB_HOSTS_FILE: no file \`$file\` (a relative path is looked up among the image's \`files\`)"
            hosts_parse "DIB_HOSTS_FILE (\`$DIB_HOSTS_FILE\`)" <"$file"
        fi
        hosts_parse DIB_HOSTS_ENTRIES <<<"${DIB_HOSTS_ENTRIES//;/$'\n'}"
    } | awk '!seen[$0]++'
}

# Copies a hosts file (or cloud-init's template of one) from standard input, without the block of an
# earlier run.
hosts_without_block() {
    awk -v begin="$HOSTS_BEGIN" -v end="$HOSTS_END" '
        $0 == begin { inside = 1 }
        !inside     { print }
        $0 == end   { inside = 0 }'
}

# In strict mode, leaves one line each for 127.0.0.1 and ::1, with only the name localhost.
hosts_localhost() {
    if [[ $DIB_HOSTS_LOCALHOST == keep ]]; then
        cat
        return
    fi
    awk '$1 == "127.0.0.1" || $1 == "::1" { if (!seen[$1]++) print $1, "localhost"; next }
         { print }
         END { if (!seen["127.0.0.1"]) print "127.0.0.1 localhost"; if (!seen["::1"]) print "::1 localhost" }'
}

# Updates the file $1 with the entries $2.
hosts_update() {
    local file=$1 entries=$2 text
    text=$(hosts_without_block <"$file" | hosts_localhost)
    [[ -z $entries ]] || text+=$'\n'"$HOSTS_BEGIN"$'\n'"$entries"$'\n'"$HOSTS_END"
    # Overwrites the file instead of renaming one: it may be a mount point during the build.
    printf '%s\n' "$text" >"$file"
}

# Prints the path of cloud-init's template of /etc/hosts for this distribution, if it exists.
hosts_template() {
    local family
    case $DISTRO_NAME in
        debian | ubuntu) family=debian ;;
        opensuse* | sles) family=suse ;;
        *) family=redhat ;;
    esac
    [[ ! -f /etc/cloud/templates/hosts.$family.tmpl ]] || echo "/etc/cloud/templates/hosts.$family.tmpl"
}

hosts_apply() {
    local entries template
    entries=$(hosts_entries)
    [[ -e /etc/hosts ]] || printf '127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n' >/etc/hosts
    hosts_update /etc/hosts "$entries"
    # With manage_etc_hosts, cloud-init writes /etc/hosts from its template at each boot.
    template=$(hosts_template)
    [[ -z $template ]] || hosts_update "$template" "$entries"
}
