//! Generates messages, client and server. The transport is chosen where they are used.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=protos");
    let files = protox::compile(["service_registry.proto", "ticket_service.proto"], ["protos"])?;
    tonic_prost_build::configure().build_transport(false).compile_fds(files)?;
    Ok(())
}
