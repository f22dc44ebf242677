//! Reading compressed archives.

use std::io::{self, BufReader, Read};

use crate::layer::Encoding;

/// Returns a reader of the archive in `blob`. Blobs of several gzip members or zstd frames are one archive.
pub(super) fn decoder<'a, R: Read + 'a>(encoding: Encoding, blob: R) -> io::Result<Box<dyn Read + 'a>> {
    let blob = BufReader::with_capacity(128 * 1024, blob);
    Ok(match encoding {
        Encoding::None => Box::new(blob),
        Encoding::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(blob)),
        Encoding::Zstd => Box::new(zstd::Decoder::with_buffer(blob)?),
    })
}
