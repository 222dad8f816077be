//! `manual` and `completions`: what others show of the command line, made from it.

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use clap::Command;
use clap_mangen::Man;

use crate::account::printed;
use crate::args::{CompletionsOptions, ManualOptions, command};
use crate::failure::Failure;

/// Writes manual pages.
pub fn run(options: &ManualOptions) -> Result<(), Failure> {
    let pages = pages();
    if let Some(dir) = &options.out {
        return write_all(&pages, dir);
    }
    let name = options.command.as_ref().map_or("hio-udp".to_owned(), |command| format!("hio-udp-{command}"));
    match pages.iter().find(|page| page.name == name) {
        Some(page) => printed(io::stdout().write_all(&page.text)),
        None => {
            let names = pages.iter().filter_map(|page| page.name.strip_prefix("hio-udp-")).collect::<Vec<_>>();
            let unknown = options.command.as_deref().unwrap_or_default();
            Err(Failure::Usage(format!("no command '{unknown}': want one of {}", names.join(", "))))
        }
    }
}

/// Prints a script that completes this program's command lines.
pub fn complete(options: &CompletionsOptions) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(options.shell, &mut command(), "hio-udp", &mut script);
    printed(io::stdout().write_all(&script))
}

/// A manual page, in roff.
struct Page {
    /// Without the `.1` of its file.
    name: String,
    text: Vec<u8>,
}

/// The page of the program, and one for each command.
fn pages() -> Vec<Page> {
    let mut program = command().disable_help_subcommand(true);
    program.build();
    let commands = [&program].into_iter().chain(program.get_subcommands());
    let page = |command: &Command| Page {
        name: command.get_display_name().unwrap_or(command.get_name()).to_owned(),
        text: page(command).expect("memory takes all that is written to it"),
    };
    commands.map(page).collect()
}

fn page(command: &Command) -> io::Result<Vec<u8>> {
    let source = concat!("hio-udp ", env!("CARGO_PKG_VERSION"));
    let (man, mut text) = (Man::new(command.clone()).source(source).manual("hio-udp"), Vec::new());
    man.render_title(&mut text)?;
    man.render_name_section(&mut text)?;
    man.render_synopsis_section(&mut text)?;
    man.render_description_section(&mut text)?;
    man.render_options_section(&mut text)?;
    if command.has_subcommands() {
        man.render_subcommands_section(&mut text)?;
    }
    // The renderer's own section for it would join the examples' lines.
    let rest = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    let mut heading = ".SH NOTES";
    for paragraph in rest.split("\n\n").filter(|paragraph| !paragraph.is_empty()) {
        if let Some(examples) = paragraph.strip_prefix("Examples:\n") {
            writeln!(text, ".SH EXAMPLES\n.nf\n{}\n.fi", escaped(examples))?;
        } else {
            writeln!(text, "{heading}\n{}", escaped(paragraph))?;
            heading = ".PP";
        }
    }
    Ok(text)
}

/// A text as roff prints it: with hyphens that can be copied, and no line that is a command.
fn escaped(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-").replace('\'', "\\(aq");
    let lines = text.lines().map(|line| if line.starts_with('.') { format!("\\&{line}") } else { line.to_owned() });
    lines.collect::<Vec<_>>().join("\n")
}

fn write_all(pages: &[Page], dir: &Path) -> Result<(), Failure> {
    let cannot =
        |path: &Path, error| Failure::run(format!("cannot write '{}': {error}; choose another --out", path.display()));
    fs::create_dir_all(dir).map_err(|error| cannot(dir, error))?;
    for page in pages {
        let path = dir.join(format!("{}.1", page.name));
        fs::write(&path, &page.text).map_err(|error| cannot(&path, error))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_page_that_names_all_its_options() {
        let pages = pages();
        let mut program = command();
        program.build();
        let commands = program.get_subcommands().filter(|command| command.get_name() != "help");
        for command in [&program].into_iter().chain(commands) {
            let name = command.get_display_name().unwrap_or(command.get_name());
            let page = pages.iter().find(|page| page.name == name).unwrap_or_else(|| panic!("no page {name}"));
            let text = String::from_utf8(page.text.clone()).unwrap().replace("\\-", "-");
            for option in command.get_arguments().filter_map(|arg| arg.get_long()) {
                assert!(text.contains(&format!("--{option}")), "{name} has no --{option}");
            }
            assert!(text.contains(".SH EXAMPLES\n.nf\n  hio-udp "), "{name}");
        }
    }

    #[test]
    fn a_text_is_no_command_of_roff() {
        assert_eq!(escaped(".SH x\n'--a' \\n"), "\\&.SH x\n\\(aq\\-\\-a\\(aq \\en");
    }
}
