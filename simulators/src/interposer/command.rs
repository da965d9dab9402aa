//! `nodeseal-sim tpm-interposer`: the interposer as a program, for a look at a line by hand.

use std::fs::File;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Mutex;

use super::{Exchange, Interposer, Rule, name};

/// Stand between a TPM stack and a software TPM, record every byte, and change what the rules say.
#[derive(clap::Args, Debug)]
pub struct Arguments {
    /// Port to listen on; control is the next one.
    #[arg(long, default_value_t = 2323)]
    port: u16,
    /// Data port of the TPM (swtpm with TCP sockets); its control port is the next one.
    #[arg(long, default_value = "127.0.0.1:2321")]
    tpm: SocketAddr,
    /// Write each exchange to this file: command, answer, forged answer, in hexadecimal.
    #[arg(long)]
    record: Option<PathBuf>,
    /// ACTION@COMMAND[#N], for example swap-key@CreatePrimary, replay@Unseal, flip-answer:96@Unseal#0,
    /// drop-answer@Load, delay:500@*, answer:0x922@Unseal#0.
    #[arg(long = "rule")]
    rules: Vec<Rule>,
}

/// Runs until it is killed; prints one line for each exchange.
///
/// # Errors
/// When a port is taken or the record cannot be written.
pub fn run(arguments: Arguments) -> io::Result<()> {
    let record = arguments.record.map(File::create).transpose()?;
    let record = Mutex::new(record);
    let interposer = Interposer::start_on(arguments.port, arguments.tpm, move |exchange| {
        println!("{}", line(exchange));
        let mut record = record
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(file) = record.as_mut()
            && let Err(error) = writeln!(file, "{}", hexadecimal(exchange))
        {
            eprintln!("record: {error}");
        }
    })?;
    interposer.set_rules(arguments.rules);
    println!(
        "tpm-interposer: {} in front of {}",
        interposer.tcti(),
        arguments.tpm
    );
    loop {
        std::thread::park();
    }
}

/// An exchange for a person.
fn line(exchange: &Exchange) -> String {
    let answer = match (&exchange.answer, exchange.response_code()) {
        (Some(answer), Some(code)) => format!("{} bytes, {code:#05x}", answer.len()),
        _ => "kept from the TPM".to_owned(),
    };
    let forged = if exchange.forged.is_some() {
        ", forged"
    } else {
        ""
    };
    format!(
        "{}: {} bytes -> {answer}{forged}",
        name(exchange.code()),
        exchange.command.len()
    )
}

/// An exchange for a program.
fn hexadecimal(exchange: &Exchange) -> String {
    let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
    let optional = |bytes: &Option<Vec<u8>>| bytes.as_deref().map_or("-".to_owned(), hex);
    format!(
        "{} {} {}",
        hex(&exchange.command),
        optional(&exchange.answer),
        optional(&exchange.forged)
    )
}
