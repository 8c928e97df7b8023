//! How deep the stack gets in an inference: it runs on a thread whose stack is memory of our own (POSIX,
//! `pthread_attr_setstack`), painted before and looked at after.
#![expect(unsafe_code, reason = "threads of the system's library: the standard one gives no stack away")]

use std::ffi::{c_int, c_void};
use std::hint::black_box;
use std::ptr::null_mut;

use student_model::{Arena, OUTPUT_LEN};

use crate::Failure;
use crate::measure::{Sample, Samples, boxed};

/// `pthread_attr_t` takes 36 to 64 bytes in glibc and musl.
#[repr(C, align(16))]
struct Attributes([u8; 256]);

/// `pthread_t` is an unsigned long in glibc, a pointer in musl.
type Thread = usize;

unsafe extern "C" {
    fn pthread_attr_init(attributes: *mut Attributes) -> c_int;
    fn pthread_attr_setstack(attributes: *mut Attributes, stack: *mut c_void, bytes: usize) -> c_int;
    fn pthread_create(
        thread: *mut Thread,
        attributes: *const Attributes,
        start: extern "C" fn(*mut c_void) -> *mut c_void,
        argument: *mut c_void,
    ) -> c_int;
    fn pthread_join(thread: Thread, result: *mut *mut c_void) -> c_int;
}

#[repr(align(4096))]
#[derive(Clone)]
struct Page([u8; 4096]);

const PAGES: usize = 1024;

/// What the thread does, and where its stack was when it began.
struct Work<'a> {
    arena: &'a mut Arena,
    sample: Sample,
    output: Box<[f32; OUTPUT_LEN]>,
    top: usize,
}

extern "C" fn start(work: *mut c_void) -> *mut c_void {
    // SAFETY: `painted` hands over a `Work` that it does not touch until this thread has ended.
    let work = unsafe { &mut *work.cast::<Work>() };
    let here = 0u8;
    work.top = black_box(&raw const here) as usize;
    infer(work);
    null_mut()
}

/// Not a part of the caller's frame, which does not count.
#[inline(never)]
fn infer(work: &mut Work) {
    work.sample.infer(work.arena, &mut work.output);
}

/// Bytes of the stack between where an inference begins and the deepest byte that it writes, the largest of six
/// samples.
pub fn stack(arena: &mut Arena) -> Result<String, Failure> {
    let mut samples = Samples(1);
    let mut used = 0;
    for paint in [0x55, 0xAA].repeat(3) {
        used = used.max(painted(arena, Sample::next(&mut samples), paint)?);
    }
    Ok(format!(r#"{{"used_bytes":{used}}}"#))
}

/// The depth for one sample. A byte that happens to equal one paint differs from the other.
fn painted(arena: &mut Arena, sample: Sample, paint: u8) -> Result<usize, Failure> {
    let mut stack = vec![Page([paint; 4096]); PAGES];
    let bottom = stack.as_mut_ptr();
    let mut work = Work { arena, sample, output: boxed(|| 0.0), top: 0 };
    let mut attributes = Attributes([0; 256]);
    let mut thread: Thread = 0;
    let done = |what: &str, code: c_int| if code == 0 { Ok(()) } else { Err(format!("{what}: error {code}")) };
    // SAFETY: the functions are the system's, with its signatures. `Attributes` is larger and stricter aligned than any
    // `pthread_attr_t`. The attributes, the stack and the work outlive the thread, which is waited for; nothing else uses
    // them meanwhile.
    unsafe {
        done("pthread_attr_init", pthread_attr_init(&mut attributes))?;
        let bytes = PAGES * size_of::<Page>();
        done("pthread_attr_setstack", pthread_attr_setstack(&mut attributes, bottom.cast(), bytes))?;
        done("pthread_create", pthread_create(&mut thread, &attributes, start, (&raw mut work).cast()))?;
        done("pthread_join", pthread_join(thread, null_mut()))?;
    }
    let bytes = black_box(&stack).iter().flat_map(|page| page.0);
    let untouched = bytes.take_while(|byte| *byte == paint).count();
    if untouched < size_of::<Page>() {
        return Err("an inference takes more stack than the measurement has".into());
    }
    Ok(work.top - (bottom as usize + untouched))
}
