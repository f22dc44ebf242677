//! Ends long operations when the user interrupts the command.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A flag that ends reading and writing of layers.
#[derive(Debug, Clone, Default)]
pub(super) struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    pub(super) fn when(flag: Arc<AtomicBool>) -> Self {
        Self(flag)
    }

    /// Fails after an interrupt. The error kind is not [`io::ErrorKind::Interrupted`], because
    /// loops over readers retry after that one.
    pub(super) fn check(&self) -> io::Result<()> {
        match self.0.load(Ordering::Relaxed) {
            true => Err(io::Error::other("interrupted")),
            false => Ok(()),
        }
    }

    /// Wraps `reader`. The result fails after an interrupt.
    pub(super) fn reader<R: Read>(&self, reader: R) -> Interruptible<R> {
        Interruptible { interrupt: self.clone(), reader }
    }
}

/// A reader that fails after an interrupt.
pub(super) struct Interruptible<R> {
    interrupt: Interrupt,
    reader: R,
}

impl<R: Read> Read for Interruptible<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.interrupt.check()?;
        self.reader.read(buffer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reading_ends_after_an_interrupt() {
        let flag = Arc::new(AtomicBool::new(false));
        let mut reader = Interrupt::when(flag.clone()).reader(io::repeat(0));
        reader.read_exact(&mut [0; 100]).unwrap();
        flag.store(true, Ordering::Relaxed);
        assert_eq!(io::copy(&mut reader, &mut io::sink()).unwrap_err().to_string(), "interrupted");
        assert!(reader.read_to_end(&mut Vec::new()).is_err());
    }
}
