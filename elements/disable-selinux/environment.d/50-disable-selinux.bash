export DIB_SELINUX_MODE="${DIB_SELINUX_MODE:-disabled}"
