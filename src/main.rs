//! Sets up the process, then calls the front end.

use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize};

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use nix::sys::stat::{Mode, umask};
use plywood::cli::{self, Program};
use plywood::sandbox;
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};

fn main() -> ExitCode {
    settle_signals();
    keep_others_from_writing();
    // The sandbox starts its jobs by executing this program again.
    if let Some(status) = sandbox::run_if_asked() {
        return status;
    }
    // Before any thread starts, because it changes a table of glibc.
    #[cfg(all(target_env = "gnu", target_feature = "crt-static"))]
    look_hosts_up_without_plugins();
    let interrupted = Arc::new(AtomicBool::new(false));
    let caught = Arc::new(AtomicUsize::new(0));
    // Under nohup(1), SIGHUP is ignored already. plywood, and the sandboxes that inherit this, then
    // continue when the terminal is closed.
    let hangs_up = !matches!(set(Signal::SIGHUP, SigHandler::SigDfl), SigHandler::SigIgn);
    if !hangs_up {
        set(Signal::SIGHUP, SigHandler::SigIgn);
    }
    for signal in [SIGINT, SIGTERM, SIGQUIT].into_iter().chain(hangs_up.then_some(SIGHUP)) {
        // The second signal ends the process at once, and the kernel releases what it held. The
        // order counts: the first handler looks at the flag before the second one sets it.
        let registered =
            signal_hook::flag::register_conditional_shutdown(signal, 128 + signal, interrupted.clone())
                .and_then(|_| signal_hook::flag::register(signal, interrupted.clone()))
                .and_then(|_| signal_hook::flag::register_usize(signal, caught.clone(), signal as usize));
        if let Err(error) = registered {
            let _ = writeln!(io::stderr(), "error: cannot take signal {signal}: {error}");
            return ExitCode::FAILURE;
        }
    }
    // Before any thread starts: a mount namespace belongs to a thread and to the threads that it
    // starts.
    let mounts = sandbox::enter_private_mounts();
    let program = Program::new(mounts, interrupted, caught);
    let status = cli::run(&program);
    match program.signal_status() {
        // A command that completed before it noticed the signal has succeeded.
        Some(of_signal) if status != ExitCode::SUCCESS => ExitCode::from(of_signal),
        _ => status,
    }
}

/// Resets the caller's settings of signals that this program relies on.
fn settle_signals() {
    // While SIGCHLD is ignored, the kernel reaps children itself, and their exit status is lost.
    set(Signal::SIGCHLD, SigHandler::SigDfl);
    // A file that outgrows `ulimit -f` becomes an error that names it, instead of a signal.
    set(Signal::SIGXFSZ, SigHandler::SigIgn);
    // A blocked signal would never stop a command. This cannot fail: the set is valid.
    let _ = SigSet::empty().thread_set_mask();
}

/// Takes write permission for group and others from all files that this process makes. CI runners
/// start jobs with umask 000, and a store that every user can write to cannot be trusted.
fn keep_others_from_writing() {
    let others = Mode::S_IWGRP | Mode::S_IWOTH;
    let callers = umask(others);
    umask(callers | others);
}

/// Sets the action for a signal, and returns the previous action.
fn set(signal: Signal, handler: SigHandler) -> SigHandler {
    let action = SigAction::new(handler, SaFlags::empty(), SigSet::empty());
    // SAFETY: neither the default nor ignoring installs a handler that could run.
    unsafe { sigaction(signal, &action) }.map_or(SigHandler::SigDfl, |before| before.handler())
}

/// Makes glibc look up host names with the code that is linked into this program: `/etc/hosts` and
/// DNS.
///
/// Any other source in `/etc/nsswitch.conf` is a library of the host, built for the host's own
/// glibc. Loading it would load a second glibc into this process, and crash it.
#[cfg(all(target_env = "gnu", target_feature = "crt-static"))]
fn look_hosts_up_without_plugins() {
    use std::ffi::{c_char, c_int};
    // Source: glibc, `nss/nss.h`.
    unsafe extern "C" {
        fn __nss_configure_lookup(database: *const c_char, services: *const c_char) -> c_int;
    }
    // SAFETY: both are terminated strings, and no other thread exists yet. The call fails only for
    // unknown databases.
    unsafe { __nss_configure_lookup(c"hosts".as_ptr(), c"files dns".as_ptr()) };
}
