# Functions of the element `devuser`.
# shellcheck shell=bash

devuser_die() {
    echo "devuser: $*" >&2
    exit 1
}

# Prints the path of the file of public keys, or nothing.
devuser_keys() {
    case $DIB_DEV_USER_AUTHORIZED_KEYS in
        '' | /dev/null) ;;
        /*) echo "$DIB_DEV_USER_AUTHORIZED_KEYS" ;;
        *) echo "/tmp/in_target.d/files/$DIB_DEV_USER_AUTHORIZED_KEYS" ;;
    esac
}

# Succeeds if the user may become root without a password.
devuser_sudo() {
    case ${DIB_DEV_USER_PWDLESS_SUDO,,} in
        1 | y | yes | true) return 0 ;;
        *) return 1 ;;
    esac
}
