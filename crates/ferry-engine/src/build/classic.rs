//! The texts of the classic builder, which docker-py, docker-java, testcontainers and scripts read:
//! steps in the order of the file, whatever order they are done in.

use std::collections::HashMap;

use ferry_build::build::{Built, finish};
use ferry_build::llb::VertexId;
use ferry_build::lower::{Lowered, Step};
use ferry_build::solve::{Event, Outcome, Stream, Tree};

/// Hex digits of an id in the texts.
const SHORT: usize = 12;

/// What is known of one operation so far.
#[derive(Default)]
struct Progress {
    log: Vec<(Stream, String)>,
    ended: Option<Outcome>,
}

/// A piece of the output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Text {
    /// Ordinary text.
    Plain(String),
    /// What a command wrote on its standard error stream, which Docker shows in red.
    Red(String),
}

/// Says whether a step that only changes the configuration was done before.
pub type MadeBefore<'a> = Box<dyn Fn(&Built) -> bool + Send + Sync + 'a>;

/// Turns events into texts.
pub struct ClassicOutput<'a> {
    lowered: &'a Lowered,
    made_before: MadeBefore<'a>,
    /// All steps of this stage came from the cache so far.
    all_cached: bool,
    progress: HashMap<VertexId, Progress>,
    trees: HashMap<VertexId, Tree>,
    /// The step that is being shown.
    current: usize,
    /// Its first line is out.
    begun: bool,
    texts: Vec<Text>,
}

impl<'a> ClassicOutput<'a> {
    /// For a plan.
    pub fn new(lowered: &'a Lowered, made_before: MadeBefore<'a>) -> Self {
        Self {
            lowered,
            made_before,
            all_cached: true,
            progress: HashMap::new(),
            trees: HashMap::new(),
            current: 0,
            begun: false,
            texts: Vec::new(),
        }
    }

    /// Takes an event; gives what can be shown now.
    pub fn take(&mut self, event: Event) -> Vec<Text> {
        self.note(event);
        self.advance(false);
        std::mem::take(&mut self.texts)
    }

    /// Takes an event without making texts of it.
    pub fn note(&mut self, event: Event) {
        match event {
            Event::Log(vertex, stream, data) => {
                let text = String::from_utf8_lossy(&data).into_owned();
                self.progress.entry(vertex).or_default().log.push((stream, text));
            }
            Event::Finished { vertex, outcome, tree, .. } => {
                self.progress.entry(vertex).or_default().ended = Some(outcome);
                self.trees.extend(tree.map(|tree| (vertex, tree)));
            }
            Event::Started(vertex) => {
                self.progress.entry(vertex).or_default();
            }
            Event::Missed(..) => {}
        }
    }

    /// The build is over: shows what is left. After a failure that is the step that failed.
    pub fn end(&mut self, succeeded: bool) -> Vec<Text> {
        self.advance(succeeded);
        std::mem::take(&mut self.texts)
    }

    /// The image of the last step that was done, for a shell in front of the one that failed.
    pub fn last_good(&self, failed: VertexId) -> Option<&'a Step> {
        let at = self.lowered.steps.iter().position(|step| step.vertex == Some(failed))?;
        let base = self.lowered.graph.vertex(failed).inputs.first();
        let fits = |step: &&Step| step.vertex.as_ref() == base;
        self.lowered.steps[..at].iter().rev().find(fits)
    }

    /// The trees known so far.
    pub fn trees(&self) -> &HashMap<VertexId, Tree> {
        &self.trees
    }

    fn advance(&mut self, all: bool) {
        let lowered = self.lowered;
        while let Some(step) = lowered.steps.get(self.current) {
            if !self.begun {
                self.begin(step);
            }
            if !self.show(step) && !all {
                return;
            }
            self.current += 1;
            self.begun = false;
        }
    }

    fn begin(&mut self, step: &Step) {
        // A step that does nothing yet may still be preceded by one that is under way.
        let (number, total) = (self.current + 1, self.lowered.steps.len());
        self.texts.push(Text::Plain(format!("Step {number}/{total} : {}\n", step.text)));
        self.begun = true;
    }

    /// Shows what there is of a step; true when it is over.
    fn show(&mut self, step: &Step) -> bool {
        let Some(vertex) = step.vertex else {
            self.texts.push(Text::Plain(" ---> \n".to_owned()));
            return true;
        };
        if !step.makes_layer {
            // Its tree is that of the step before, or of its base image.
            if self.trees.contains_key(&vertex) || !step.is_from {
                self.unchanged_tree(step);
                return true;
            }
            return false;
        }
        let progress = self.progress.entry(vertex).or_default();
        for (stream, text) in progress.log.drain(..) {
            self.texts.push(match stream {
                Stream::Output => Text::Plain(text),
                Stream::Error => Text::Red(text),
            });
        }
        match progress.ended.clone() {
            None => false,
            Some(Outcome::Failed(_)) => false,
            Some(Outcome::Cached) => {
                self.texts.push(Text::Plain(" ---> Using cache\n".to_owned()));
                self.id(step);
                true
            }
            Some(Outcome::Done) => {
                self.all_cached = false;
                self.id(step);
                true
            }
        }
    }

    /// A step without a layer: a FROM, or one that changes the configuration.
    fn unchanged_tree(&mut self, step: &Step) {
        if step.is_from {
            self.all_cached = true;
        } else if self.all_cached {
            self.all_cached = (self.made_before)(&self.image(step));
            if self.all_cached {
                self.texts.push(Text::Plain(" ---> Using cache\n".to_owned()));
            }
        }
        self.id(step);
    }

    fn id(&mut self, step: &Step) {
        let id = self.step_id(step);
        self.texts.push(Text::Plain(format!(" ---> {id}\n")));
    }

    /// The id of the image that the build would give if it ended with this step.
    fn step_id(&self, step: &Step) -> String {
        if step.is_from {
            let base = self.lowered.bases.iter().find(|(name, _)| step.text.contains(name.as_str()));
            if let Some((_, image)) = base {
                return image.id.hex()[..SHORT].to_owned();
            }
        }
        self.image(step).id.hex()[..SHORT].to_owned()
    }

    /// The image that the build would give if it ended with this step.
    fn image(&self, step: &Step) -> Built {
        finish(&step.config, &step.history, step.vertex, self.trees.clone(), self.lowered.epoch)
    }
}
