//! Compiles `proto/rls.proto`, without `protoc`: a fresh machine has none.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = protox::compile(["proto/rls.proto"], ["proto"])?;
    tonic_prost_build::configure().build_client(true).compile_fds(files)?;
    println!("cargo:rerun-if-changed=proto/rls.proto");
    Ok(())
}
