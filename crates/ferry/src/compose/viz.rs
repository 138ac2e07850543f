//! `viz`: the project as a graph, for Graphviz, as SVG, or in the terminal with live state.

use super::context::Compose;
use crate::failure::{Failure, Outcome};
use crate::output;
use ferry_compose::apply::observe_containers;
use ferry_compose::found::FoundContainer;
use ferry_compose::target::Target;
use std::collections::BTreeMap;
use std::fmt::Write as _;

crate::flags! {
    /// Flags of `viz`.
    pub struct VizFlags {
        format: String = '-' "format" <string> "dot (the default), svg or text";
        image: bool = '-' "image" "Include service's image name in output graph";
        indentation_size: Option<i64> = '-' "indentation-size" <int> "Number of tabs or spaces to use for indentation";
        networks: bool = '-' "networks" "Include service's attached networks in output graph";
        ports: bool = '-' "ports" "Include service's exposed ports in output graph";
        spaces: bool = '-' "spaces" "If given, space character ' ' will be used to indent, otherwise tab character is used";
    }
}

/// Runs `viz`.
pub async fn viz(compose: &Compose, flags: VizFlags, _: Vec<String>) -> Outcome {
    let target = compose.target(&[])?;
    let text = match flags.format.as_str() {
        "" | "dot" => dot(&target, &flags),
        "svg" | "text" => {
            let engine = compose.engine(&target.project.name).await?;
            let containers = observe_containers(&engine).await?;
            if flags.format == "svg" { svg(&target, &containers) } else { tree(&target, &containers) }
        }
        other => {
            return Err(Failure::new(format!("--format is \"{other}\", but can only be dot, svg or text")));
        }
    };
    output::write(text.as_bytes())?;
    Ok(0)
}

fn dot(target: &Target, flags: &VizFlags) -> String {
    let unit = if flags.spaces { " " } else { "\t" };
    let indent = unit.repeat(flags.indentation_size.unwrap_or(1).clamp(0, 16) as usize);
    let mut out = format!("digraph \"{}\" {{\n{indent}layout=dot;\n", target.project.name);
    for (name, service) in &target.services {
        let mut label = format!("<b>{name}</b>");
        if flags.image {
            let _ = write!(label, "<br/>{}", target.image(name));
        }
        if flags.networks {
            label.extend(service.networks.keys().map(|network| format!("<br/>{network}")));
        }
        if flags.ports {
            for port in &service.ports {
                let published = port.published.as_deref().unwrap_or("*");
                let _ = write!(label, "<br/>{published}:{}", port.target.unwrap_or(0));
            }
        }
        let _ = writeln!(out, "{indent}\"{name}\" [style=\"filled\" label=<{label}>];");
    }
    for (name, service) in &target.services {
        for needs in service.depends_on.keys() {
            let _ = writeln!(out, "{indent}\"{name}\" -> \"{needs}\";");
        }
    }
    out.push_str("}\n");
    out
}

/// How far below the services nobody depends on a service stands.
fn levels(target: &Target) -> BTreeMap<&str, usize> {
    let mut levels: BTreeMap<&str, usize> = BTreeMap::new();
    for name in target.in_dependency_order() {
        let needs = target.services[name].depends_on.keys();
        let level = needs.filter_map(|need| levels.get(need.as_str())).max().map_or(0, |deepest| deepest + 1);
        levels.insert(name, level);
    }
    levels
}

fn svg(target: &Target, containers: &[FoundContainer]) -> String {
    const WIDTH: usize = 160;
    const HEIGHT: usize = 60;
    const GAP: usize = 40;
    let levels = levels(target);
    let rows = levels.values().max().map_or(0, |most| most + 1);
    let mut places: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    let mut columns = vec![0usize; rows];
    for (name, level) in &levels {
        // What depends on much stands above what it depends on.
        let y = GAP + (rows - 1 - level) * (HEIGHT + GAP);
        places.insert(name, (GAP + columns[*level] * (WIDTH + GAP), y));
        columns[*level] += 1;
    }
    let width = GAP + columns.iter().max().unwrap_or(&0) * (WIDTH + GAP);
    let height = GAP + rows * (HEIGHT + GAP);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" font-size=\"13\">\n"
    );
    for (name, service) in &target.services {
        for needs in service.depends_on.keys() {
            let (Some((x, y)), Some((to_x, to_y))) = (places.get(name.as_str()), places.get(needs.as_str()))
            else {
                continue;
            };
            let (x, y, to_x) = (x + WIDTH / 2, y + HEIGHT, to_x + WIDTH / 2);
            let _ =
                writeln!(out, "<line x1=\"{x}\" y1=\"{y}\" x2=\"{to_x}\" y2=\"{to_y}\" stroke=\"#888\"/>");
        }
    }
    for (name, (x, y)) in &places {
        let (middle, first, second, third) = (x + WIDTH / 2, y + 19, y + 35, y + 50);
        let state = State::of(containers, name);
        let (fill, stroke) = state.colours();
        let _ = writeln!(
            out,
            "<rect x=\"{x}\" y=\"{y}\" width=\"{WIDTH}\" height=\"{HEIGHT}\" rx=\"6\" fill=\"{fill}\" stroke=\"{stroke}\"/>"
        );
        let _ = writeln!(
            out,
            "<text x=\"{middle}\" y=\"{first}\" text-anchor=\"middle\" font-weight=\"bold\">{}</text>",
            escape(name)
        );
        for (line, text) in [(second, target.image(name)), (third, state.to_string())] {
            let _ = writeln!(
                out,
                "<text x=\"{middle}\" y=\"{line}\" text-anchor=\"middle\" font-size=\"10\" fill=\"#555\">{}</text>",
                escape(&text)
            );
        }
    }
    out.push_str("</svg>\n");
    out
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// Services nobody depends on first, what they need indented below, each with its containers' state.
fn tree(target: &Target, containers: &[FoundContainer]) -> String {
    let mut out = format!("{}\n", target.project.name);
    let needed = |name: &str| target.services.values().any(|service| service.depends_on.contains_key(name));
    for name in target.services.keys().filter(|name| !needed(name)) {
        branch(target, containers, name, 1, &mut out);
    }
    out
}

fn branch(target: &Target, containers: &[FoundContainer], name: &str, depth: usize, out: &mut String) {
    let _ = writeln!(out, "{}{name}  {}", "  ".repeat(depth), State::of(containers, name));
    let Some(service) = target.services.get(name) else { return };
    for needs in service.depends_on.keys() {
        branch(target, containers, needs, depth + 1, out);
    }
}

/// How the containers of a service are.
struct State<'a> {
    all: usize,
    running: usize,
    /// The worst of their healths.
    health: Option<&'a str>,
}

impl<'a> State<'a> {
    fn of(containers: &'a [FoundContainer], service: &str) -> Self {
        let own = || containers.iter().filter(|c| c.service == service && !c.oneoff && !c.hook);
        let health = || own().filter_map(|container| container.health.as_deref());
        Self {
            all: own().count(),
            running: own().filter(|container| container.status.is_up()).count(),
            health: health().find(|word| *word != "healthy").or_else(|| health().next()),
        }
    }

    /// Of the box, and of its border: green where all is well, red where something is not, blue before it is made.
    fn colours(&self) -> (&'static str, &'static str) {
        match (self.all, self.running, self.health) {
            (0, ..) => ("#eef4fb", "#4a7ebb"),
            (.., Some("unhealthy")) => ("#fbeeee", "#bb4a4a"),
            (.., Some("starting")) => ("#fbf7ea", "#b8962e"),
            (all, running, _) if all == running => ("#eefbf0", "#3f9a52"),
            _ => ("#fbeeee", "#bb4a4a"),
        }
    }
}

impl std::fmt::Display for State<'_> {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { all, running, health } = self;
        match (all, health) {
            (0, _) => out.write_str("no container"),
            (_, Some(health)) => write!(out, "{running}/{all} running, {health}"),
            (_, None) => write!(out, "{running}/{all} running"),
        }
    }
}
