//! The only place that starts ordinary programs of the machine (hooks run in the sandbox instead).
//!
//! A [`Run`] is one call of a [`Program`]. Nothing reaches it that is not said:
//!
//! | stream | what happens to it |
//! |---|---|
//! | standard input | empty, but in [`Run::ask`] and [`Run::interactive`] |
//! | standard output | thrown away by [`Run::run`], returned by [`Run::capture`] and [`Run::ask`], watched by [`Run::watch`] |
//! | standard error | its last 4 KiB are kept for the error |
//! | environment | `PATH`, `LC_ALL=C`, `TZ=UTC`, and what [`Run::env`] adds |
//!
//! Every child gets `PR_SET_PDEATHSIG`: it dies with the thread that started it, so no child outlives plywood,
//! whatever ends it. A thread that starts a program must therefore wait for it.

mod ask;
mod error;
mod run;
mod started;
mod tail;
mod watch;

pub use ask::Answer;
pub use error::ExecError;
pub use run::{Background, Program, Run, find};
pub use watch::{Ending, Watched};
