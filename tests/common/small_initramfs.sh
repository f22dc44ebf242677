#!/bin/bash
set -euo pipefail
mkdir -p /etc/initramfs-tools/conf.d /etc/initramfs-tools/hooks
printf 'MODULES=list\nCOMPRESSLEVEL=1\n' >/etc/initramfs-tools/conf.d/small
cat >/etc/initramfs-tools/hooks/small <<'HOOK'
#!/bin/sh
[ "${1:-}" != prereqs ] || exit 0
. /usr/share/initramfs-tools/hook-functions
manual_add_modules virtio_pci virtio_blk virtio_scsi sd_mod ext4 crc32c_generic xfs
HOOK
chmod 0755 /etc/initramfs-tools/hooks/small
