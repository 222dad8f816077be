//! Opening a capture: a file or standard input, as it is or compressed.

use std::io;
use std::path::Path;

use crate::failure::Failure;
use crate::input::{self, Input, Readiness};
use crate::packets::Reader;
use crate::stop::Stop;
use crate::unpack::{Unpacked, unpacked};

/// An open capture.
pub struct Capture {
    pub reader: Reader<Input>,
    /// Of what it is read from, if that may stand still.
    pub readiness: Option<Readiness>,
    /// Whether what is read was compressed.
    pub is_packed: bool,
}

/// Opens a capture; `-` is standard input. One that stands still is waited for until a stop.
pub fn open(path: &Path, stop: &Stop) -> Result<Capture, Failure> {
    let name = path.display();
    let failed = |error: io::Error| Failure::run(format!("cannot read '{name}': {error}; give a pcap or pcapng file"));
    let (raw, readiness) = input::open(path, stop).map_err(failed)?;
    let Unpacked { input, begins, is_packed } = unpacked(raw).map_err(failed)?;
    let reader = Reader::new(input).map_err(|error| {
        if let Some(error) = error {
            return failed(error);
        }
        let begins = match &begins[..] {
            [] => "it is empty".to_owned(),
            _ => format!("it begins with {}", begins.iter().map(|byte| format!("{byte:02x}")).collect::<String>()),
        };
        Failure::run(format!(
            "'{name}' is no capture: {begins}; want pcap or pcapng, as it is or compressed by gzip or zstd"
        ))
    })?;
    Ok(Capture { reader, readiness, is_packed })
}

/// What is told where the system has ended the reading of a file: it may hold more. What is damaged is no failure.
pub fn not_read_on(path: &Path, error: &io::Error) -> Option<Failure> {
    error.raw_os_error()?;
    let name = path.display();
    Some(Failure::run(format!("cannot read '{name}' to its end: {error}; what came before is in the report")))
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::path::PathBuf;

    use super::*;
    use crate::packets::{DamageKind, Item};

    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str, bytes: &[u8]) -> Self {
            let path = std::env::temp_dir().join(format!("hio-udp-unpack-{}-{name}", std::process::id()));
            std::fs::write(&path, bytes).unwrap();
            Self(path)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = std::fs::remove_file(&self.0);
        }
    }

    fn capture() -> Vec<u8> {
        let mut file = Vec::new();
        hio_udp::pcapng::put_section(&mut file, "test");
        hio_udp::pcapng::put_interface(&mut file, "lo");
        let (src, dst) = ("192.0.2.1:9".parse().unwrap(), "192.0.2.2:2055".parse().unwrap());
        for n in 0..1000_u64 {
            let time = std::time::UNIX_EPOCH + std::time::Duration::from_micros(n * n);
            hio_udp::pcapng::Packet::new(&[n as u8; 300], src, dst, time).put(&mut file);
        }
        file
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn zstd(bytes: &[u8]) -> Vec<u8> {
        ruzstd::encoding::compress_to_vec(bytes, ruzstd::encoding::CompressionLevel::Fastest)
    }

    /// Packets, damage, and what could not be read on.
    fn read(name: &str, bytes: &[u8]) -> (usize, Vec<DamageKind>, Option<String>) {
        let file = Scratch::new(name, bytes);
        let mut reader = open(&file.0, &Stop::default()).unwrap().reader;
        let (mut packets, mut damage) = (0, Vec::new());
        while let Some(item) = reader.next() {
            match item {
                Item::Packet(_) => packets += 1,
                Item::Damage(place) => damage.push(place.kind),
                Item::Loss(_) => {}
            }
        }
        (packets, damage, reader.take_error().map(|error| error.to_string()))
    }

    #[test]
    fn plain_and_compressed_captures_are_the_same() {
        let file = capture();
        let (first, second) = file.split_at(file.len() / 3);
        let skipped = [0x50, 0x2A, 0x4D, 0x18, 3, 0, 0, 0, 9, 9, 9];
        for (name, bytes) in [
            ("plain", file.clone()),
            ("gz", gzip(&file)),
            ("two.gz", [gzip(first), gzip(second)].concat()),
            ("zst", zstd(&file)),
            ("two.zst", [zstd(first), skipped.to_vec(), zstd(second)].concat()),
            // As pzstd begins.
            ("skipped.zst", [skipped.to_vec(), zstd(&file)].concat()),
        ] {
            assert_eq!(read(name, &bytes), (1000, vec![], None), "{name}");
        }
    }

    #[test]
    fn the_whole_blocks_before_the_cut_of_a_zstd_file_are_read() {
        let whole = zstd(&[capture(), capture()].concat());
        let mut found = Vec::new();
        for cut in [10, whole.len() / 2] {
            let (packets, _, error) = read(&format!("{cut}.zst"), &whole[..whole.len() - cut]);
            assert!(error.is_some());
            found.push(packets);
        }
        // A block is 128 KiB, which are some 350 packets.
        assert!(found[0] > 1500 && (500..1300).contains(&found[1]), "{found:?}");
    }

    #[test]
    fn compressed_captures_that_are_cut_are_read_as_far_as_they_go() {
        for (name, whole) in [("cut.gz", gzip(&capture())), ("cut.zst", zstd(&capture()))] {
            let (packets, damage, error) = read(name, &whole[..whole.len() - 20]);
            assert!(packets < 1000 && error.is_some(), "{name}: {packets}");
            assert_eq!(damage.last(), Some(&DamageKind::Unreadable), "{name}");
        }
    }

    #[test]
    fn a_compressed_capture_of_which_nothing_can_be_unpacked_is_told_with_the_reason() {
        let (gz, zst) = (gzip(&capture()), zstd(&capture()));
        let mut no_gzip = gz.clone();
        no_gzip[2] = 7; // no method of gzip's
        for (name, bytes) in [("short.gz", &gz[..5]), ("bad.gz", &no_gzip), ("short.zst", &zst[..6])] {
            let file = Scratch::new(name, bytes);
            let Err(failure) = open(&file.0, &Stop::default()) else { panic!("{name}") };
            let said = failure.to_string();
            assert!(said.starts_with("cannot read '") && said.contains(name), "{said}");
            assert!(!said.contains("is no capture") && !said.contains('\n'), "{said}");
        }
    }

    #[test]
    fn what_is_no_capture_is_named_with_what_would_be_right() {
        for (name, bytes, part) in
            [("empty", &b""[..], "it is empty"), ("text", b"hello", "68656c6c"), ("gz-text", &gzip(b"hello"), "1f8b")]
        {
            let file = Scratch::new(name, bytes);
            let Err(failure) = open(&file.0, &Stop::default()) else { panic!("{name}") };
            let said = failure.to_string();
            assert!(said.contains(part) && said.contains("want pcap or pcapng") && said.contains(name), "{said}");
        }
        let Err(failure) = open(Path::new("/no/such/file"), &Stop::default()) else { panic!() };
        assert!(failure.to_string().contains("'/no/such/file'"));
    }
}
