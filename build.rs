//! Functions with equal code become one where the linker can do that, in debug builds: unoptimised generic code is full of
//! them, and every page of code that is touched counts as the worker's memory.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    #[expect(clippy::disallowed_methods, reason = "how cargo tells a build script what is built")]
    let is = |name: &str, value: &str| std::env::var(name).is_ok_and(|found| found == value);
    // The linker that the pinned toolchain brings for this target is LLD.
    if is("PROFILE", "debug") && is("TARGET", "x86_64-unknown-linux-gnu") {
        println!("cargo::rustc-link-arg-bins=-Wl,--icf=all");
    }
}
