#!/bin/bash
# Writes /etc/default/grub and GRUB's menu where diskimage-builder's element `bootloader` does, from the same variables.
#
#   boot-loader ROOT BOOT PROBE
#
# ROOT names the root file system to the kernel, BOOT the one at /boot if it is another. PROBE is a script that answers in place of
# grub-probe: that would look for the disk among those of this machine.
set -euo pipefail

root=$1 boot=$2 probe=$3
settings=/etc/default/grub

# Distributions that set up a boot loader themselves say so.
[[ ! -f /tmp/grub/install ]] || exit 0

mkconfig=$(type -P grub2-mkconfig || type -P grub-mkconfig) || {
    echo 'bootloader: the image has no grub-mkconfig: GRUB is not installed' >&2
    exit 1
}
prober=$(type -P grub2-probe || type -P grub-probe)
menu=/boot/grub
[[ ! -d /boot/grub2 ]] || menu=/boot/grub2
mkdir -p "$menu" /etc/default
# A link to an EFI system partition that this disk does not have.
[[ ! -L $menu/grubenv ]] || rm "$menu/grubenv"
touch "$settings"

# Sets a setting, in its place if it is there.
set_to() {
    local value=${2//\\/\\\\}
    value=${value//&/\\&}
    if grep -q "^$1=" "$settings"; then
        sed -i "s|^$1=.*|$1=${value//|/\\|}|" "$settings"
    else
        echo "$1=$2" >>"$settings"
    fi
}

is_wanted() {
    [[ ${1:-True} == True ]]
}

serial_console() {
    case "${DIB_BOOTLOADER_SERIAL_CONSOLE:-},${ARCH:-}" in
    ?*,*) echo "console=$DIB_BOOTLOADER_SERIAL_CONSOLE" ;;
    ,p*pc*) echo console=hvc0 ;;
    ,arm64) echo console=ttyAMA0,115200 ;;
    *) echo console=ttyS0,115200 ;;
    esac
}

# With checksums of boot files the kernel has to know where they are, and that they count.
fips_arguments() {
    [[ -x /bin/fips-mode-setup ]] || return 0
    local status=0
    fips-mode-setup --is-enabled >&2 || status=$?
    [[ $status != 1 ]] || echo -n ' fips=1'
}

# What the image's source says of consoles and of other disks holds no more.
sed -i -e 's/\<console=[[:alnum:],]*[[:space:]]*//g' -e 's/ boot=[0-9A-Za-z/=\-]\+//' "$settings"

set_to GRUB_DEVICE "$root"
set_to GRUB_DISABLE_LINUX_UUID true
set_to GRUB_TIMEOUT "${DIB_GRUB_TIMEOUT:-5}"
set_to GRUB_TIMEOUT_STYLE "${DIB_GRUB_TIMEOUT_STYLE:-menu}"
terminal=console serial='' screen='' timer=''
if is_wanted "${DIB_BOOTLOADER_USE_SERIAL_CONSOLE:-}"; then
    terminal='serial console' serial=$(serial_console)
fi
set_to GRUB_TERMINAL "\"$terminal\""
set_to GRUB_GFXPAYLOAD_LINUX auto

[[ -z ${DIB_BOOTLOADER_VIRTUAL_TERMINAL-tty0} ]] || screen=console=${DIB_BOOTLOADER_VIRTUAL_TERMINAL-tty0}
! is_wanted "${DIB_NO_TIMER_CHECK:-}" || timer=no_timer_check
arguments="$screen $serial $timer ${DIB_BOOTLOADER_DEFAULT_CMDLINE:-}${boot:+ boot=$boot}$(fips_arguments)"
echo "GRUB_CMDLINE_LINUX_DEFAULT=\"$arguments\"" >>"$settings"
[[ -z $serial ]] ||
    echo 'GRUB_SERIAL_COMMAND="serial --speed=115200 --unit=0 --word=8 --parity=no --stop=1"' >>"$settings"

# Only while the menu is made: the disks of this machine do not belong into it. The running system may look for others.
cp -p "$settings" "$settings.plywood"
grep -q '^[[:space:]]*GRUB_DISABLE_OS_PROBER=true' "$settings" || echo GRUB_DISABLE_OS_PROBER=true >>"$settings"
options=()
[[ $("$mkconfig" --help) != *--update-bls-cmdline* ]] || options=(--update-bls-cmdline)
touch -r "${prober%/*}" /tmp/plywood-time
mv "$prober" "$prober.plywood"
printf '%s' "$probe" >"$prober"
chmod 0755 "$prober"
status=0
"$mkconfig" "${options[@]}" -o "$menu/grub.cfg" || status=$?
mv -f "$prober.plywood" "$prober"
touch -r /tmp/plywood-time "${prober%/*}"
rm /tmp/plywood-time
mv -f "$settings.plywood" "$settings"
((status == 0)) || exit "$status"

if [[ ${DIB_BLOCK_DEVICE:-} == efi ]]; then
    sed -i 's%\(linux\|initrd\)16 /boot%\1efi /boot%' "$menu/grub.cfg"
fi
vendor=/boot/efi/${EFI_BOOT_DIR:-}
if [[ -n ${EFI_BOOT_DIR:-} && -d $vendor ]]; then
    cp "$menu/grub.cfg" "$vendor/grub.cfg"
    [[ ! -e $menu/grubenv ]] || cp "$menu/grubenv" "$vendor/grubenv"
fi

# Entries of the boot loader specification name files from the root of the file system that holds /boot.
shopt -s nullglob
for entry in /boot/loader/entries/*; do
    if [[ -n $boot ]]; then
        sed -i -E 's! /boot/(vmlinuz|initramfs)! /\1!' "$entry"
    else
        sed -i -E 's! /(vmlinuz|initramfs)! /boot/\1!' "$entry"
    fi
done
touch -d "@$SOURCE_DATE_EPOCH" "$settings" "$menu/grub.cfg"
