//! Which shard a datagram goes to: the kernel's own choice, or a program of classic BPF in its place.
//!
//! The program runs in the kernel for each datagram, or each message of several that the sender made in one
//! go; it gives the number of a shard. It is attached to the group of sockets once.

use crate::sys::group::Instruction;

/// How datagrams are spread over the shards of a [`Pipeline`](super::Pipeline).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub enum Spread {
    /// By a hash of both addresses and ports, the kernel's own way: all datagrams of one sender go to one
    /// shard, in order. With few senders some shards stay idle.
    #[default]
    FlowHash,
    /// Each datagram to a shard by lot: evenly, even those of a single sender, whose order is then lost.
    ///
    /// It takes the place of strict turns, for which classic BPF has no memory. What a sender passes to its
    /// kernel as one message (UDP_SEGMENT) stays together on this machine.
    #[doc(alias = "round robin")]
    #[doc(alias = "SO_ATTACH_REUSEPORT_CBPF")]
    Random,
    /// By the processor that the kernel receives on: processor `c` to the shard [pinned](super::PipelineBuilder::pin)
    /// to it; else, or without pins, to shard `c` modulo their number.
    ///
    /// With pinned shards no datagram changes its processor, which costs 250 to 390 ns otherwise. The network card
    /// must spread its interrupts over the processors (RSS), or the kernel (RPS).
    #[doc(alias = "SO_INCOMING_CPU")]
    Processor,
}

/// Opcodes of classic BPF, and what they may load beside the datagram (linux/bpf_common.h, linux/filter.h).
const LOAD_WORD: u16 = 0x20;
const MODULO: u16 = 0x94;
const SKIP_IF_EQUAL: u16 = 0x15;
pub(super) const RETURN_CONSTANT: u16 = 0x06;
const RETURN_LOADED: u16 = 0x16;
/// SKF_AD_OFF, which is −0x1000, and SKF_AD_CPU, SKF_AD_RANDOM.
const THE_PROCESSOR: u32 = 0xFFFF_F000 + 36;
const A_RANDOM_WORD: u32 = 0xFFFF_F000 + 56;

fn plain(code: u16, value: u32) -> Instruction {
    Instruction { code, skip_if: 0, skip_else: 0, value }
}

impl Spread {
    /// The program that spreads datagrams so over `shards` shards, on the processors `pins` if any are given;
    /// `None` where the kernel does it by itself.
    pub(super) fn program(self, shards: usize, pins: &[usize]) -> Option<Vec<Instruction>> {
        let by_modulo = |what| [plain(LOAD_WORD, what), plain(MODULO, shards as u32), plain(RETURN_LOADED, 0)];
        match self {
            _ if shards < 2 => None,
            Self::FlowHash => None,
            Self::Random => Some(by_modulo(A_RANDOM_WORD).to_vec()),
            Self::Processor => {
                let [load, rest @ ..] = by_modulo(THE_PROCESSOR);
                let pinned = pins.iter().enumerate().flat_map(|(shard, &processor)| {
                    let skip = Instruction { code: SKIP_IF_EQUAL, skip_if: 0, skip_else: 1, value: processor as u32 };
                    [skip, plain(RETURN_CONSTANT, shard as u32)]
                });
                Some([load].into_iter().chain(pinned).chain(rest).collect())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a program as the kernel does, for a datagram that came on `processor` and drew `random`.
    fn run(program: &[Instruction], processor: u32, random: u32) -> u32 {
        let (mut at, mut loaded) = (0, 0);
        loop {
            let Instruction { code, skip_if, skip_else, value } = program[at];
            at += 1;
            match (code, value) {
                (LOAD_WORD, THE_PROCESSOR) => loaded = processor,
                (LOAD_WORD, A_RANDOM_WORD) => loaded = random,
                (MODULO, _) => loaded %= value,
                (SKIP_IF_EQUAL, _) => at += usize::from(if loaded == value { skip_if } else { skip_else }),
                (RETURN_CONSTANT, _) => return value,
                (RETURN_LOADED, 0) => return loaded,
                unknown => panic!("{unknown:?}"),
            }
        }
    }

    #[test]
    fn a_datagram_goes_to_the_shard_pinned_to_its_processor_and_from_others_to_one_that_is_there() {
        let pinned = Spread::Processor.program(3, &[4, 0, 9]).unwrap();
        let shards: Vec<u32> = (0..10).map(|processor| run(&pinned, processor, 77)).collect();
        assert_eq!(shards, [1, 1, 2, 0, 0, 2, 0, 1, 2, 2]);
        let unpinned = Spread::Processor.program(3, &[]).unwrap();
        assert!((0..100).all(|processor| run(&unpinned, processor, 77) == processor % 3));
    }

    #[test]
    fn lots_are_even() {
        let program = Spread::Random.program(4, &[]).unwrap();
        let mut counts = [0; 4];
        (0..4000).for_each(|random| counts[run(&program, 7, random) as usize] += 1);
        assert_eq!(counts, [1000; 4]);
    }

    #[test]
    fn where_there_is_no_choice_there_is_no_program() {
        assert_eq!(Spread::FlowHash.program(4, &[]), None);
        assert_eq!(Spread::Random.program(1, &[]), None);
    }
}
