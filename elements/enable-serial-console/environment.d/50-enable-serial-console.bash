case "${ARCH:-}" in
    arm64) export DIB_SERIAL_CONSOLE_TTY="${DIB_SERIAL_CONSOLE_TTY:-ttyAMA0}" ;;
    *) export DIB_SERIAL_CONSOLE_TTY="${DIB_SERIAL_CONSOLE_TTY:-ttyS0}" ;;
esac
