//! Compiles `proto/ids.proto`, without `protoc`: a fresh machine has none.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = protox::compile(["proto/ids.proto"], ["proto"])?;
    tonic_prost_build::configure().build_client(true).compile_fds(files)?;
    println!("cargo:rerun-if-changed=proto/ids.proto");
    Ok(())
}
