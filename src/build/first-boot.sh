# Keys that normalization removes are made at first boot, where nothing else in the image does so.
cd "$TMP_MOUNT_PATH"
units=usr/lib/systemd/system
[ -d "$units" ] || units=lib/systemd/system
own=etc/systemd/system
if [ ! -d "$units" ] || [ ! -d "$own" ]; then exit 0; fi

# Installs and enables the unit $1, which the target $2 wants.
add() {
    rm -f "$own/$1" "$own/$2.wants/$1"
    mkdir -p "$own/$2.wants"
    cat >"$own/$1"
    ln -s "../$1" "$own/$2.wants/$1"
}

# sshd refuses to start without a key. Debian's package makes keys when it is installed, and never again.
# After cloud-init, which makes keys where it finds a data source.
if [ -e usr/sbin/sshd ] && [ -e usr/bin/ssh-keygen ] &&
    ! grep -Eqs 'sshd?-keygen|ssh-host-keys' "$units"/*.service "$own"/*.service; then
    add plywood-ssh-host-keys.service multi-user.target <<'END'
[Unit]
Description=Make the SSH host keys that this image was built without
Documentation=man:ssh-keygen(1)
After=cloud-init.service cloud-init-network.service systemd-random-seed.service
Before=ssh.service sshd.service
ConditionPathExistsGlob=!/etc/ssh/ssh_host_*_key

[Service]
Type=oneshot
ExecStart=/usr/bin/ssh-keygen -A
RemainAfterExit=yes

[Install]
WantedBy=multi-user.target
END
fi

# PostgreSQL, Postfix and Apache refuse to start where they are set up with this certificate and it is missing.
if [ -e usr/sbin/make-ssl-cert ]; then
    add plywood-snakeoil.service basic.target <<'END'
[Unit]
Description=Make the self-signed certificate that this image was built without
Documentation=man:make-ssl-cert(8)
DefaultDependencies=no
After=local-fs.target systemd-tmpfiles-setup.service systemd-random-seed.service
Before=basic.target shutdown.target
Conflicts=shutdown.target
ConditionPathExists=!/etc/ssl/private/ssl-cert-snakeoil.key

[Service]
Type=oneshot
ExecStart=/usr/sbin/make-ssl-cert generate-default-snakeoil
RemainAfterExit=yes

[Install]
WantedBy=basic.target
END
fi
