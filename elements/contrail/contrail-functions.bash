# Functions of the element `contrail`. They check DIB_CONTRAIL_*, and print values and paths.
# shellcheck shell=bash

# The record of the image about its packages.
CONTRAIL_RECORD=/usr/share/contrail-builder

contrail_die() {
    echo "contrail: $*" >&2
    exit 1
}

contrail_is_apt() {
    command -v apt-get >/dev/null
}

# Prints the words of a list that is separated by spaces, commas or newlines: sorted, without
# duplicates.
contrail_words() {
    tr -s ', \t\n' '\n' <<<"$1" | sed '/^$/d' | LC_ALL=C sort -u
}

# Prints the path of a file option. A relative path is a name in the `files` of the image.
contrail_file() {
    case $1 in
        /*) echo "$1" ;;
        *) echo "/tmp/in_target.d/files/$1" ;;
    esac
}

# Prints the URL of the package repository in the requested snapshot, without a slash at its end.
contrail_repository() {
    echo "${DIB_CONTRAIL_REPO_BASE%/}${DIB_CONTRAIL_REPO_SNAPSHOT:+/snapshots/$DIB_CONTRAIL_REPO_SNAPSHOT}"
}

# Prints the suite of the package repository for this distribution.
contrail_suite() {
    if contrail_is_apt; then
        # shellcheck source=/dev/null
        (. /etc/os-release && echo "contrail-${VERSION_CODENAME:-$DIB_RELEASE}")
    else
        echo "contrail-el$(rpm --eval '%{?rhel}')"
    fi
}

contrail_check_options() {
    local word file
    [[ $DIB_CONTRAIL_RELEASE =~ ^[A-Za-z0-9][A-Za-z0-9._-]*$ ]] ||
        contrail_die "DIB_CONTRAIL_RELEASE is \`$DIB_CONTRAIL_RELEASE\` (expected: such as master or R4.0)"
    [[ $DIB_CONTRAIL_REPO_SNAPSHOT =~ ^([A-Za-z0-9][A-Za-z0-9:._-]*)?$ ]] ||
        contrail_die "DIB_CONTRAIL_REPO_SNAPSHOT is \`$DIB_CONTRAIL_REPO_SNAPSHOT\` (expected: a snapshot's name or digest)"
    for word in $(contrail_words "$DIB_CONTRAIL_PACKAGES"); do
        [[ $word =~ ^[A-Za-z0-9][A-Za-z0-9+._~:=*-]*$ ]] ||
            contrail_die "DIB_CONTRAIL_PACKAGES: \`$word\` is not a package (expected: name or name=version)"
    done
    for word in $(contrail_words "$DIB_CONTRAIL_BUILD_DEPS"); do
        file=$(contrail_file "$word")
        [[ -f $file ]] ||
            contrail_die "DIB_CONTRAIL_BUILD_DEPS: no file \`$file\` (a relative path is looked up among the image's \`files\`)"
        contrail_check_source "$file"
    done
    contrail_check_repository
}

# A control file names its source package in its first paragraph; a spec has a Name tag.
contrail_check_source() {
    if contrail_is_apt; then
        grep -qE '^Source:' "$1" ||
            contrail_die "DIB_CONTRAIL_BUILD_DEPS: \`$1\` has no field Source (expected: a debian/control file)"
    else
        grep -qiE '^Name:' "$1" || contrail_die "DIB_CONTRAIL_BUILD_DEPS: \`$1\` has no tag Name (expected: a .spec file)"
    fi
}

contrail_check_repository() {
    local key
    if [[ -z $DIB_CONTRAIL_REPO_BASE ]]; then
        [[ -z $DIB_CONTRAIL_REPO_KEY$DIB_CONTRAIL_REPO_SNAPSHOT ]] ||
            contrail_die "DIB_CONTRAIL_REPO_KEY and DIB_CONTRAIL_REPO_SNAPSHOT need DIB_CONTRAIL_REPO_BASE, which is empty"
        return
    fi
    [[ $DIB_CONTRAIL_REPO_BASE =~ ^(https?://[^[:space:]/]+|file:/+[^[:space:]/]+)[^[:space:]]*$ ]] ||
        contrail_die "DIB_CONTRAIL_REPO_BASE is \`$DIB_CONTRAIL_REPO_BASE\` (expected: https://…, http://… or file:/path/in/the/image)"
    [[ -n $DIB_CONTRAIL_REPO_KEY ]] ||
        contrail_die "DIB_CONTRAIL_REPO_KEY is empty: a package repository is used only with the key that signs it"
    key=$(contrail_file "$DIB_CONTRAIL_REPO_KEY")
    [[ -s $key ]] ||
        contrail_die "DIB_CONTRAIL_REPO_KEY: no file \`$key\` (a relative path is looked up among the image's \`files\`)"
    # A packet's first byte has its highest bit set (RFC 4880, section 4.2); 6 is a public key.
    grep -q -- '-----BEGIN PGP PUBLIC KEY BLOCK-----' "$key" || [[ $(head -c 1 "$key" | od -An -tu1) -ge 128 ]] ||
        contrail_die "DIB_CONTRAIL_REPO_KEY: \`$key\` is no OpenPGP public key"
}
