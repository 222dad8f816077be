//! Unpacking what gzip or Zstandard has compressed, or what nobody has.

use std::io::{self, BufRead, BufReader, Cursor, Read};

use flate2::bufread::MultiGzDecoder;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

use crate::expansion::{BLOCK_BYTES_MAX, Expansion};

const MAGIC_BYTES: usize = 4;

/// What a frame of Zstandard begins with.
const FRAME: &[u8] = &[0x28, 0xB5, 0x2F, 0xFD];
/// That and its descriptor.
const FIXED_BYTES: usize = MAGIC_BYTES + 1;

/// What comes out of some input.
pub struct Unpacked {
    pub input: Box<dyn Read>,
    /// Its first bytes, before anything was unpacked.
    pub begins: Vec<u8>,
    pub is_packed: bool,
}

/// Finds out whether the input is compressed, by its first bytes, and unpacks it if so.
pub fn unpacked(mut raw: Box<dyn Read>) -> io::Result<Unpacked> {
    let mut begins = Vec::with_capacity(MAGIC_BYTES);
    raw.by_ref().take(MAGIC_BYTES as u64).read_to_end(&mut begins)?;
    let raw = Cursor::new(begins.clone()).chain(raw);
    let (input, is_packed): (Box<dyn Read>, _) = match &begins[..] {
        [0x1F, 0x8B, ..] => (Box::new(InPieces(MultiGzDecoder::new(BufReader::new(raw)))), true),
        // A frame, or one that is to be skipped.
        FRAME | [0x50..=0x5F, 0x2A, 0x4D, 0x18] => (Box::new(Unzstd::new(BufReader::new(raw))), true),
        _ => (Box::new(raw), false),
    };
    Ok(Unpacked { input, begins, is_packed })
}

/// Reads so many bytes at a time: where gzip's decoder meets damage, what it has unpacked in the same call is lost.
pub const PIECE_BYTES: usize = 1024;

struct InPieces<R>(R);

impl<R: Read> Read for InPieces<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = into.len().min(PIECE_BYTES);
        self.0.read(&mut into[..count])
    }
}

/// Reads Zstandard frames, one behind the other.
///
/// The decoder takes as much memory as a frame's window and as a block unpacks to, whatever they say, so both are
/// looked at before.
struct Unzstd<R> {
    input: R,
    decoder: FrameDecoder,
    expansion: Expansion,
    /// The block that comes next, with its header.
    block: Vec<u8>,
    is_in_frame: bool,
    /// Why a frame ends early; told once everything before that has been read.
    failure: Option<io::Error>,
}

/// The largest window of a frame: what zstd itself takes unless it is told otherwise.
const WINDOW_BYTES_MAX: u64 = 128 << 20;

/// A last block with nothing in it, and a checksum: the decoder keeps its window back until it has seen one.
const END_OF_FRAME: [u8; 7] = [1, 0, 0, 0, 0, 0, 0];

impl<R: BufRead> Unzstd<R> {
    fn new(input: R) -> Self {
        let (decoder, expansion) = (FrameDecoder::new(), Expansion::default());
        Self { input, decoder, expansion, block: Vec::new(), is_in_frame: false, failure: None }
    }

    /// Unpacks the next block, or ends the frame before one that cannot be.
    fn unpack_block(&mut self) -> io::Result<()> {
        let one = || BlockDecodingStrategy::UptoBlocks(1);
        let unpacked = self.read_block().and_then(|()| {
            // Behind the last block there may be a checksum.
            let block = self.block.chain(&mut self.input);
            self.decoder.decode_blocks(block, one()).map_err(io::Error::other)
        });
        if let Err(error) = unpacked {
            self.failure = Some(error);
            self.decoder.decode_blocks(&END_OF_FRAME[..], one()).map_err(io::Error::other)?;
        }
        Ok(())
    }

    /// Reads the next block, if it does not unpack to more than it may.
    fn read_block(&mut self) -> io::Result<()> {
        const HEADER: usize = 3;
        let cut = |error| cut(error, "a block");
        self.block.resize(HEADER, 0);
        self.input.read_exact(&mut self.block).map_err(cut)?;
        let header = u32::from_le_bytes([self.block[0], self.block[1], self.block[2], 0]);
        let (kind, bytes) = (header >> 1 & 3, (header >> 3) as usize);
        if bytes > BLOCK_BYTES_MAX {
            return Err(invalid("a block is longer than 128 KiB"));
        }
        // Of one byte that repeats, there is one.
        self.block.resize(HEADER + if kind == 1 { 1 } else { bytes }, 0);
        self.input.read_exact(&mut self.block[HEADER..]).map_err(cut)?;
        if kind != 2 {
            return Ok(());
        }
        match self.expansion.of_block(&self.block[HEADER..]) {
            None => Err(invalid("a block is malformed")),
            Some(bytes) if bytes > BLOCK_BYTES_MAX => Err(invalid("a block unpacks to more than 128 KiB")),
            Some(_) => Ok(()),
        }
    }

    /// What has been wrong with a frame that was read to its end.
    fn end_frame(&mut self) -> io::Result<()> {
        self.is_in_frame = false;
        let told = self.decoder.get_checksum_from_data();
        match self.failure.take() {
            Some(error) => Err(error),
            None if told.is_some() && told != self.decoder.get_calculated_checksum() => {
                Err(invalid("the checksum of a frame is not that of its content"))
            }
            None => Ok(()),
        }
    }

    /// Begins the next frame, or goes past one that is to be skipped.
    fn begin_frame(&mut self) -> io::Result<()> {
        let header = self.read_header().map_err(|error| cut(error, "the header of a frame"))?;
        if window_bytes(&header).is_some_and(|bytes| bytes > WINDOW_BYTES_MAX) {
            return Err(invalid("a frame wants a window of more than 128 MiB, or is as long without one"));
        }
        self.decoder = FrameDecoder::new(); // one that is used again has another limit of its own
        match self.decoder.init(&header[..]) {
            Ok(()) => (self.is_in_frame, self.expansion) = (true, Expansion::default()),
            Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame { length, .. })) => {
                io::copy(&mut self.input.by_ref().take(length.into()), &mut io::sink())?;
            }
            Err(error) => return Err(io::Error::other(error)),
        }
        Ok(())
    }

    /// Reads what a frame begins with, up to its first block or to what is to be skipped.
    fn read_header(&mut self) -> io::Result<Vec<u8>> {
        let mut header = vec![0; FIXED_BYTES];
        self.input.read_exact(&mut header)?;
        let len = if header.starts_with(FRAME) { FIXED_BYTES + fields(header[4]).iter().sum::<usize>() } else { 8 };
        header.resize(len, 0);
        self.input.read_exact(&mut header[FIXED_BYTES..])?;
        Ok(header)
    }
}

/// Bytes of a frame's fields, by its descriptor: of its window, its dictionary's number and its content's size.
fn fields(descriptor: u8) -> [usize; 3] {
    let has_window = descriptor >> 5 & 1 == 0;
    let dictionary = [0, 1, 2, 4][usize::from(descriptor & 3)];
    let size = [usize::from(!has_window), 2, 4, 8][usize::from(descriptor >> 6)];
    [has_window.into(), dictionary, size]
}

/// How much of what has been unpacked a frame wants to be kept: its window, or all of it.
fn window_bytes(header: &[u8]) -> Option<u64> {
    if !header.starts_with(FRAME) {
        return None;
    }
    let [window, dictionary, size] = fields(header[4]);
    if window == 1 {
        let (exponent, eighths) = (header[FIXED_BYTES] >> 3, header[FIXED_BYTES] & 7);
        return Some((8 + u64::from(eighths)) << (7 + exponent));
    }
    let mut bytes = [0; 8];
    bytes[..size].copy_from_slice(&header[FIXED_BYTES + dictionary..]);
    Some(u64::from_le_bytes(bytes))
}

impl<R: BufRead> Read for Unzstd<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            if self.is_in_frame {
                if self.decoder.can_collect() == 0 && !self.decoder.is_finished() {
                    self.unpack_block()?;
                }
                let count = self.decoder.read(into)?;
                if count > 0 {
                    return Ok(count);
                }
                if self.decoder.is_finished() {
                    self.end_frame()?;
                }
            } else if self.input.fill_buf()?.is_empty() {
                return Ok(0);
            } else {
                self.begin_frame()?;
            }
        }
    }
}

/// What is told where the input ends inside of something.
fn cut(error: io::Error, inside: &str) -> io::Error {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => io::Error::new(error.kind(), format!("it ends inside {inside}")),
        _ => error,
    }
}

fn invalid(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn of_a_damaged_gzip_file_less_than_a_piece_in_front_of_the_damage_is_lost() {
        let text: String = (0..40_000).map(|n| format!("datagram {n} of {}\n", n % 77)).collect();
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(text.as_bytes()).unwrap();
        let mut file = encoder.finish().unwrap();
        let damage = file.len() / 2;
        file[damage..damage + 40].fill(0xff);
        let out = |step: usize| {
            let mut input = unpacked(Box::new(Cursor::new(file.clone()))).unwrap().input;
            let (mut part, mut out) = (vec![0; step], 0);
            while let Ok(count) = input.read(&mut part) {
                assert!(count > 0, "the damage is not noticed");
                out += count;
            }
            out
        };
        let (most, ours) = (out(1), out(256 << 10));
        assert!(most > 100_000 && most - ours < PIECE_BYTES, "{ours} of {most}");
    }

    /// A frame of ten bytes, and of a block that copies 131,074 bytes `matches` times.
    fn bomb(matches: usize) -> Vec<u8> {
        // From its end: a one, then of each match two zeros, for the offset of 1, and sixteen ones, for its length.
        let mut bits = vec![true];
        (0..matches).for_each(|_| bits.extend((0..18).map(|bit| bit > 1)));
        let bits: Vec<bool> = bits.into_iter().rev().collect();
        let stream = bits.chunks(8).map(|byte| byte.iter().rev().fold(0, |byte, bit| byte << 1 | u8::from(*bit)));
        // No literals; so many sequences; one code for each of their parts.
        let mut block = vec![0, (matches >> 8) as u8 + 128, matches as u8, 0x54, 0, 2, 52];
        block.extend(stream);
        let head = |is_last: usize, kind: usize, len: usize| (len << 3 | kind << 1 | is_last).to_le_bytes();
        let mut frame = vec![0x28, 0xB5, 0x2F, 0xFD, 0, 0x38];
        frame.extend_from_slice(&head(0, 0, 10)[..3]);
        frame.extend_from_slice(b"0123456789");
        frame.extend_from_slice(&head(1, 2, block.len())[..3]);
        frame.extend_from_slice(&block);
        frame
    }

    #[test]
    fn a_zstd_block_that_stands_for_gigabytes_is_refused_before_it_takes_memory() {
        let unpacked = |matches: usize| {
            let mut out = Vec::new();
            let result = Unzstd::new(&bomb(matches)[..]).read_to_end(&mut out);
            (out.len(), result.map_err(|error| error.to_string()))
        };
        let start = std::time::Instant::now();
        let (bytes, result) = unpacked(30_000); // 3.9 GB
        assert!(result.unwrap_err().contains("more than 128 KiB") && bytes == 10);
        assert!(start.elapsed() < std::time::Duration::from_secs(5));
    }

    #[test]
    fn a_zstd_frame_whose_window_is_larger_than_zstd_takes_by_itself_is_refused_wherever_it_stands() {
        const MOST: u64 = 128 << 20;
        let frame = |header: &[u8]| [&[0x28, 0xB5, 0x2F, 0xFD], header, &[81, 0, 0], b"0123456789"].concat();
        let whole = |bytes: u64| [&[0xE0], &bytes.to_le_bytes()[..]].concat();
        for (header, is_taken) in [
            (vec![0, 17 << 3], true), // 128 MiB, as `zstd --long` asks for
            (vec![0, 17 << 3 | 1], false),
            (vec![0, 20 << 3], false),
            (vec![0, 0xFF], false),
            (whole(MOST), true),
            (whole(MOST + 1), false),
            (whole(u64::MAX), false),
        ] {
            for before in [vec![], frame(&[0, 0])] {
                let mut out = Vec::new();
                let result = Unzstd::new(&[before, frame(&header)].concat()[..]).read_to_end(&mut out);
                assert_eq!(result.is_ok(), is_taken, "{header:?}: {result:?}");
                let told = result.err().map(|error| error.to_string()).unwrap_or_default();
                assert!(is_taken || told.contains("128 MiB"), "{told}");
            }
        }
    }

    #[test]
    fn a_zstd_frame_whose_checksum_is_not_that_of_its_content_is_told() {
        // Nine bytes of no compression, with their checksum.
        let mut frame = vec![0x28, 0xB5, 0x2F, 0xFD, 0x24, 9, 0x49, 0, 0];
        frame.extend(b"unchecked");
        let all = |frame: &[u8]| {
            let mut out = Vec::new();
            let result = Unzstd::new(frame).read_to_end(&mut out);
            (out, result.map_err(|error| error.to_string()))
        };
        frame.extend([0; 4]);
        let (out, result) = all(&frame);
        assert_eq!(out, b"unchecked");
        assert!(result.unwrap_err().contains("checksum"));
    }
}
