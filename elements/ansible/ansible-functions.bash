# Functions of the element `ansible`. They check DIB_ANSIBLE_* and print the values.
# shellcheck shell=bash

ansible_die() {
    echo "ansible: $*" >&2
    exit 1
}

# Prints the words of a list that is separated by spaces, commas or newlines.
ansible_words() {
    tr -s ', \t\n' '\n' <<<"$1" | sed '/^$/d'
}

# Prints the path of a file option. A relative path is a name in the `files` of the image.
ansible_file() {
    case $1 in
        /*) echo "$1" ;;
        *) echo "/tmp/in_target.d/files/$1" ;;
    esac
}

# Prints the product that DIB_ANSIBLE_VERSION selects: ansible-core (the engine) or ansible (engine
# and collections).
ansible_product() {
    case $DIB_ANSIBLE_VERSION in
        '' | core | core:*) echo ansible-core ;;
        ansible | ansible:*) echo ansible ;;
        # A number alone decides: 2.11 and later 2.x are the engine. 2.10 and earlier, and 3 and
        # later, are `ansible`.
        2.[0-9] | 2.[0-9].* | 2.10 | 2.10.*) echo ansible ;;
        2.*) echo ansible-core ;;
        *) echo ansible ;;
    esac
}

# Prints the requested version: exact, with a final `.*`, or `*` for any.
ansible_version() {
    case $DIB_ANSIBLE_VERSION in
        '' | core | ansible) echo '*' ;;
        *) echo "${DIB_ANSIBLE_VERSION#*:}" ;;
    esac
}

# Succeeds if the version $1 matches the requested version.
ansible_version_matches() {
    local wanted
    wanted=$(ansible_version)
    # shellcheck disable=SC2053 # the final `*` is a pattern
    [[ $wanted == '*' || $1 == "$wanted" || ( $wanted == *.\* && $1 == $wanted ) ]]
}

ansible_check_options() {
    local word file
    case $DIB_ANSIBLE_SOURCE in
        package | pip | venv) ;;
        *) ansible_die "DIB_ANSIBLE_SOURCE is \`$DIB_ANSIBLE_SOURCE\` (expected: package, pip or venv)" ;;
    esac
    [[ $DIB_ANSIBLE_VERSION =~ ^(|core|ansible|((core|ansible):)?[0-9]+(\.[0-9]+)*((a|b|rc)[0-9]+|\.\*)?)$ ]] ||
        ansible_die "DIB_ANSIBLE_VERSION is \`$DIB_ANSIBLE_VERSION\` (expected: core:2.19.* or ansible:7.7.0, or such a number alone)"
    [[ $DIB_ANSIBLE_VENV =~ ^/[A-Za-z0-9._/-]+$ ]] ||
        ansible_die "DIB_ANSIBLE_VENV is \`$DIB_ANSIBLE_VENV\` (expected: an absolute path)"
    for word in $(ansible_words "$DIB_ANSIBLE_PACKAGES"); do
        [[ $word =~ ^[A-Za-z0-9][A-Za-z0-9._-]*(==[A-Za-z0-9.+!]+)?$ ]] ||
            ansible_die "DIB_ANSIBLE_PACKAGES: \`$word\` is not a project of PyPI (expected: name or name==version)"
        [[ $DIB_ANSIBLE_SOURCE != package || $word != *==* ]] ||
            ansible_die "DIB_ANSIBLE_PACKAGES: \`$word\` asks for a version, which needs DIB_ANSIBLE_SOURCE \`venv\` or \`pip\`"
    done
    for word in $(ansible_words "$DIB_ANSIBLE_COLLECTIONS"); do
        ansible_check_collection "$word"
    done
    [[ -n $DIB_ANSIBLE_PIP_CONSTRAINTS ]] || return 0
    [[ $DIB_ANSIBLE_SOURCE != package ]] ||
        ansible_die "DIB_ANSIBLE_PIP_CONSTRAINTS needs DIB_ANSIBLE_SOURCE \`venv\` or \`pip\`, which is \`package\`"
    file=$(ansible_file "$DIB_ANSIBLE_PIP_CONSTRAINTS")
    [[ -f $file ]] ||
        ansible_die "DIB_ANSIBLE_PIP_CONSTRAINTS: no file \`$file\` (a relative path is looked up among the image's \`files\`)"
}

ansible_check_collection() {
    local file
    if [[ $1 == *.tar.gz ]]; then
        file=$(ansible_file "$1")
        [[ -f $file ]] || ansible_die "DIB_ANSIBLE_COLLECTIONS: no file \`$file\` (a relative path is looked up among the image's \`files\`)"
    else
        [[ $1 =~ ^[a-z][a-z0-9_]*\.[a-z][a-z0-9_]*:[0-9]+\.[0-9]+\.[0-9A-Za-z.+-]+$ ]] ||
            ansible_die "DIB_ANSIBLE_COLLECTIONS: \`$1\` (expected: namespace.name:version, or a collection's .tar.gz)"
    fi
}
