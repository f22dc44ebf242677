//! The output of hooks: one file for each task, below `logs/<image>/<step>/`.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::PathBuf;

use super::Store;
use crate::plan::StepName;
use crate::port::Logs;

impl Logs for Store {
    fn create(
        &self,
        image: &str,
        step: &StepName,
        task: &str,
    ) -> io::Result<(PathBuf, Box<dyn Write + Send>)> {
        let directory = self.logs().join(image).join(step.to_string());
        fs::create_dir_all(&directory)?;
        let path = directory.join(format!("{task}.log"));
        let file = File::create(&path)?;
        Ok((path, Box::new(file)))
    }
}
