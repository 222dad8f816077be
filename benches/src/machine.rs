//! The machine under the figures: what it is, a thread that nobody disturbs, and its clock.
#![allow(unsafe_code)]

use std::fs;
use std::mem;
use std::thread;
use std::time::Duration;

use crate::traffic;

/// One line that says where the figures come from.
pub fn describe() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let cpu = read("/proc/cpuinfo");
    let names: Vec<&str> = traffic::backends().iter().map(|backend| backend.name).collect();
    let backends = if names.is_empty() { traffic::backend().to_owned() } else { names.join(" and ") };
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("unknown processor");
    format!(
        "{} × {}, Linux {}, load {}, hio-udp on {}",
        thread::available_parallelism().map_or(1, usize::from),
        model.trim_start_matches([' ', '\t', ':']),
        read("/proc/sys/kernel/osrelease").split(['-', '\n']).next().unwrap_or_default(),
        read("/proc/loadavg").split(' ').take(2).collect::<Vec<_>>().join(" "),
        backends,
    )
}

/// Keeps the calling thread on one processor, counted from 0; does nothing if there is none of that number.
pub fn pin(processor: usize) {
    // SAFETY: cpu_set_t is a C array of integers (sched.h); all zeroes is the empty set.
    let mut set: libc::cpu_set_t = unsafe { mem::zeroed() };
    // SAFETY: CPU_SET bounds-checks its index against the set it is given.
    unsafe { libc::CPU_SET(processor, &mut set) };
    // SAFETY: `set` is alive and its true size stands beside it; pid 0 is the calling thread.
    unsafe { libc::sched_setaffinity(0, mem::size_of_val(&set), &raw const set) };
}

/// Pins the calling thread and lets it, and the threads it makes, go before others where that is
/// allowed, but as an ordinary thread: under SCHED_FIFO sleeps have no timer slack (prctl(2)), which
/// users' threads have.
pub fn prefer(processor: usize) {
    pin(processor);
    // SAFETY: the call takes no pointer; 0 is the calling thread.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, -20) };
}

/// Pins the calling thread and lets nothing ordinary interrupt it; says whether that was allowed.
///
/// The slices of neighbours, and the caches they leave cold, would count as ours.
pub fn quieten(processor: usize) -> bool {
    pin(processor);
    let priority = libc::sched_param { sched_priority: 10 };
    // SAFETY: `priority` is alive for the call; pid 0 is the calling thread.
    unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const priority) == 0 }
}

/// Processor time the calling thread has used, in the kernel and outside.
#[inline]
pub fn thread_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is writable and of the type the call fills in.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Nanoseconds of a system call that does nothing.
pub fn syscall_ns() -> f64 {
    const TIMES: u32 = 100_000;
    let start = thread_time();
    for _ in 0..TIMES {
        // SAFETY: the call takes no argument.
        unsafe { libc::syscall(libc::SYS_getppid) };
    }
    (thread_time() - start).as_nanos() as f64 / f64::from(TIMES)
}
