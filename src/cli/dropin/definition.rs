//! `diskimage-builder`: builds the images of YAML files, one after the other.

use std::path::PathBuf;

use clap::Parser;

use super::{Call, create};
use crate::cli::answer::remark;
use crate::directory::read_text;
use crate::dropin::{ImageCommand, definition_help, parse_definition};

/// Build the images that YAML files define
///
/// A file is a list of image definitions. Definitions with the same imagename describe one image:
/// lists are appended, maps are merged, other values are replaced. A definition without imagename
/// continues the one before it.
#[derive(Debug, Parser)]
#[command(name = "diskimage-builder", infer_long_args = true, after_long_help = definition_help())]
struct Arguments {
    /// Files of image definitions
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Show the commands and run none
    #[arg(long)]
    dry_run: bool,
    /// Stop at the first image that fails
    #[arg(long)]
    stop_on_failure: bool,
}

/// Builds all images; the exit status is that of the last image that failed.
pub(super) fn run(call: &Call<'_>) -> u8 {
    let words = [call.command.name().to_owned()].into_iter().chain(call.words.iter().cloned());
    let arguments = Arguments::parse_from(words);
    match commands(&arguments.files) {
        Ok(commands) => run_all(call, &arguments, &commands),
        Err(message) => {
            remark!("error: {message}");
            1
        }
    }
}

fn commands(files: &[PathBuf]) -> Result<Vec<ImageCommand>, String> {
    let text = |path: &PathBuf| {
        read_text(path).map_err(|error| format!("cannot read `{}`: {error}", path.display()))
    };
    let texts = files.iter().map(text).collect::<Result<Vec<_>, _>>()?;
    let names: Vec<_> = files.iter().map(|path| format!("`{}`", path.display())).collect();
    parse_definition(texts.iter().map(String::as_str))
        .map_err(|error| format!("{}: {error}", names.join(", ")))
}

fn run_all(call: &Call<'_>, arguments: &Arguments, commands: &[ImageCommand]) -> u8 {
    let mut last_failure = 0;
    for image in commands {
        remark!("{image}\n");
        if arguments.dry_run {
            continue;
        }
        let status = create::run(&image_call(call, image));
        if status != 0 {
            last_failure = status;
            if arguments.stop_on_failure {
                break;
            }
        }
    }
    last_failure
}

fn image_call<'a>(call: &Call<'a>, image: &ImageCommand) -> Call<'a> {
    let mut environment = call.environment.clone();
    environment.extend(image.environment.clone());
    Call { command: image.command, words: image.words.clone(), environment, process: call.process }
}
