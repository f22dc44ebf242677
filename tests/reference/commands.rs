//! Generates the page of commands from the definition of the command line.

use clap::{Arg, Command};

/// Returns one section for each command, with its usage and a table of its options.
pub(crate) fn sections(command: &Command) -> String {
    let mut text = String::from("## Options of every command\n\n");
    text.push_str(&table(command.get_arguments().filter(|arg| arg.is_global_set())));
    for subcommand in command.get_subcommands() {
        section(&mut text, command.get_name(), subcommand);
    }
    text
}

fn section(text: &mut String, above: &str, command: &Command) {
    let name = format!("{above} {}", command.get_name());
    let leaves: Vec<_> = command.get_subcommands().collect();
    if leaves.is_empty() {
        text.push_str(&format!("\n## `{}`\n\n{}\n", usage(&name, command), about(command)));
        let own: Vec<_> = command.get_arguments().filter(|arg| is_own(arg)).collect();
        if !own.is_empty() {
            text.push_str(&format!("\n{}", table(own.into_iter())));
        }
    }
    for leaf in leaves {
        section(text, &name, leaf);
    }
}

/// Returns true for arguments that are specific to a command, so not for help and version.
fn is_own(arg: &Arg) -> bool {
    !arg.is_global_set() && arg.get_id() != "help" && arg.get_id() != "version"
}

fn usage(name: &str, command: &Command) -> String {
    let places = command.get_positionals().map(|arg| {
        let many = if arg.get_num_args().is_some_and(|count| count.max_values() > 1) { "…" } else { "" };
        let place = format!("{}{many}", value_name(arg));
        let place = if arg.is_last_set() { format!("-- {place}") } else { place };
        if arg.is_required_set() { place } else { format!("[{place}]") }
    });
    [name.to_owned()].into_iter().chain(places).collect::<Vec<_>>().join(" ")
}

fn about(command: &Command) -> String {
    let text = command.get_long_about().or(command.get_about()).map(ToString::to_string).unwrap_or_default();
    text.lines()
        .map(str::trim)
        .map(|line| if line.ends_with('.') || line.is_empty() { line.to_owned() } else { format!("{line}.") })
        .collect::<Vec<_>>()
        .join("\n")
}

fn table<'a>(args: impl Iterator<Item = &'a Arg>) -> String {
    let rows = args.map(|arg| format!("| {} | {} | {} |\n", name(arg), help(arg), default(arg)));
    ["| argument | meaning | default |\n|---|---|---|\n".to_owned()].into_iter().chain(rows).collect()
}

fn name(arg: &Arg) -> String {
    let value = if arg.get_action().takes_values() { format!(" {}", value_name(arg)) } else { String::new() };
    let long = arg.get_long().map(|long| format!("--{long}{value}"));
    let short = arg
        .get_short()
        .map(|short| if long.is_some() { format!("-{short}") } else { format!("-{short}{value}") });
    let words: Vec<_> = short.into_iter().chain(long).collect();
    if words.is_empty() { format!("`{}`", value_name(arg)) } else { format!("`{}`", words.join("`, `")) }
}

fn value_name(arg: &Arg) -> String {
    let names = arg.get_value_names().unwrap_or_default();
    names.first().map_or_else(|| arg.get_id().to_string().to_uppercase(), ToString::to_string)
}

/// Returns the help with the possible values of an option. The default has its own column.
fn help(arg: &Arg) -> String {
    let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
    let help = help.split(" [default:").next().unwrap_or_default().replace('|', "\\|");
    let values: Vec<_> = arg.get_possible_values();
    let names: Vec<_> = values.iter().map(|value| format!("`{}`", value.get_name())).collect();
    match names.is_empty() || !arg.get_action().takes_values() {
        true => help,
        false => format!("{help}: {}", names.join(", ")),
    }
}

fn default(arg: &Arg) -> String {
    let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
    if let Some((_, default)) = help.split_once(" [default: ") {
        return default.trim_end_matches(']').to_owned();
    }
    let values: Vec<_> =
        arg.get_default_values().iter().map(|value| format!("`{}`", value.display())).collect();
    if arg.get_action().takes_values() { values.join(", ") } else { String::new() }
}
