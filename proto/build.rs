//! Generates messages, client and server. The transport is chosen where they are used.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=protos");
    let mut files = vec!["service_registry.proto", "ticket_service.proto"];
    if cfg!(feature = "workload-api") {
        files.push("workload.proto");
    }
    tonic_prost_build::configure().build_transport(false).compile_fds(protox::compile(files, ["protos"])?)?;
    Ok(())
}
