//! The Docker engine that images are loaded into.

use std::time::Duration;

use crate::exec::Run;
use crate::host::Trial;

/// A local engine answers in milliseconds. The limit stops waiting for an engine on another host,
/// which may be down.
const LIMIT: Duration = Duration::from_secs(3);

/// Asks the engine for its version through the client, which finds the engine by the caller's
/// variables and contexts.
pub fn docker_engine() -> Trial {
    let ask = Run::named("docker").args(["version", "--format", "{{.Server.Version}}"]).inherit_environment();
    let reason = match ask.ask(b"", LIMIT) {
        Ok(answer) if answer.exit.success() => return Trial::Works,
        Ok(answer) => format!("`{}` failed with {}", ask.command_line(), answer.exit),
        Err(error) => error.to_string(),
    };
    Trial::Fails { action: "ask the Docker engine".to_owned(), errno: None, reason }
}
