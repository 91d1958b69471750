//! What keeps the memory of debug builds small, where the linker can do that. Functions with equal code become one:
//! unoptimised generic code is full of them, and every page of code that is touched counts as the worker's memory. And the
//! code has a fixed address, so that no seven MiB of relocations are read, and four MiB written, at the start.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    #[expect(clippy::disallowed_methods, reason = "how cargo tells a build script what is built")]
    let is = |name: &str, value: &str| std::env::var(name).is_ok_and(|found| found == value);
    // The linker that the pinned toolchain brings for this target is LLD.
    if is("PROFILE", "debug") && is("TARGET", "x86_64-unknown-linux-gnu") {
        println!("cargo::rustc-link-arg-bins=-Wl,--icf=all");
        println!("cargo::rustc-link-arg-bins=-no-pie");
    }
}
