//! Data: volumes, copies, and what the disk holds.

use anyhow::Result;

use super::Case;
use crate::bench::measure::{self, Figure};
use crate::bench::peers::{ENGINES, Field};

/// The cases.
pub const CASES: &[Case] = &[
    Case {
        name: "copy-up of 10,000 files",
        unit: "ms",
        command: "run --rm --network none -v /data IMAGE true, the image's /data holds 10,000 files",
        wanted: &[("docker", 1.0 / 3.0)],
        limit: None,
        measure: copy_up,
    },
    Case {
        name: "cp of 1 GB, in and out",
        unit: "ms",
        command: "cp FILE CONTAINER:/f; cp CONTAINER:/f FILE",
        wanted: &[("docker", 1.0 / 2.0)],
        limit: None,
        measure: copy,
    },
    Case {
        name: "prune of 1,000 volumes",
        unit: "ms",
        command: "volume prune -f (ferry: -a -f), 1,000 empty named volumes",
        wanted: &[("docker", 1.0 / 5.0)],
        limit: None,
        measure: prune_volumes,
    },
    Case {
        name: "rm -v of 1,000 volumes",
        unit: "ms",
        command: "rm -v of a created container with 1,000 anonymous volumes",
        wanted: &[("docker", 1.0 / 5.0)],
        limit: None,
        measure: remove_volumes,
    },
    Case {
        name: "ps with 1,000 containers",
        unit: "ms",
        command: "ps -a, 1,000 created containers",
        wanted: &[("docker", 1.0 / 10.0)],
        limit: None,
        measure: list_1000,
    },
    Case {
        name: "system df with 100 images and 1,000 containers",
        unit: "ms",
        command: "system df, 100 images, 1,000 containers (ferry's have run and written a file, docker's are only created)",
        wanted: &[],
        limit: Some(50.0),
        measure: disk_usage,
    },
];

const MANY_FILES: &str = "FROM busybox\n\
    RUN mkdir /data && cd /data && for i in $(seq 10000); do echo $i > file-$i; done\n";

fn copy_up(field: &Field) -> Result<Vec<Figure>> {
    let context = field.root.join("many-files");
    std::fs::create_dir_all(&context)?;
    std::fs::write(context.join("Dockerfile"), MANY_FILES)?;
    let context = context.display().to_string();
    for who in ENGINES {
        measure::milliseconds(&field.build(who, &["-q", "-t", "bench-files", &context]))?;
    }
    let run = ["run", "--rm", "--network", "none", "-v", "/data", "bench-files", "true"];
    measure::interleaved(7, &ENGINES.map(|who| (who, field.command(who, &run))))
}

fn copy(field: &Field) -> Result<Vec<Figure>> {
    let (from, to) = (field.root.join("gigabyte"), field.root.join("gigabyte.out"));
    let make = format!("head -c 1000000000 /dev/urandom > {}", from.display());
    measure::milliseconds(&field.shell(&make))?;
    let mut samples = [Vec::new(), Vec::new()];
    for _ in 0..3 {
        for (who, samples) in ENGINES.into_iter().zip(&mut samples) {
            measure::milliseconds(&field.command(who, &["create", "--name", "bench-cp", "busybox", "true"]))?;
            let into = ["cp", "-q", &from.display().to_string(), "bench-cp:/f"].map(str::to_owned);
            let out = ["cp", "-q", "bench-cp:/f", &to.display().to_string()].map(str::to_owned);
            // Debian's docker has no -q.
            let skip = usize::from(who == "docker");
            let words = |all: &[String; 4]| -> Vec<String> {
                all[..1].iter().chain(&all[1 + skip..]).cloned().collect()
            };
            let mut sum = 0.0;
            for all in [&into, &out] {
                let words = words(all);
                let words: Vec<&str> = words.iter().map(String::as_str).collect();
                sum += measure::milliseconds(&field.command(who, &words))?;
            }
            samples.push(sum);
            measure::milliseconds(&field.command(who, &["rm", "bench-cp"]))?;
            std::fs::remove_file(&to)?;
        }
    }
    std::fs::remove_file(&from)?;
    ENGINES.into_iter().zip(samples).map(|(who, samples)| Figure::new(who, samples)).collect()
}

fn prune_volumes(field: &Field) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for who in ENGINES {
        for index in 0..1000 {
            let create = ["volume", "create", &format!("bench-{index}")].map(str::to_owned);
            let create: Vec<&str> = create.iter().map(String::as_str).collect();
            measure::milliseconds(&field.command(who, &create))?;
        }
        let prune: &[&str] =
            if who == "ferry" { &["volume", "prune", "-a", "-f"] } else { &["volume", "prune", "-f"] };
        figures.push(Figure::new(who, vec![measure::milliseconds(&field.command(who, prune))?])?);
    }
    Ok(figures)
}

fn remove_volumes(field: &Field) -> Result<Vec<Figure>> {
    let volumes: Vec<String> = (0..1000).map(|index| format!("/volume-{index}")).collect();
    let mut samples = [Vec::new(), Vec::new()];
    for _ in 0..3 {
        for (who, samples) in ENGINES.into_iter().zip(&mut samples) {
            let mut create = vec!["create", "--name", "bench-volumes"];
            volumes.iter().for_each(|volume| create.extend(["-v", volume]));
            create.extend(["busybox", "true"]);
            measure::milliseconds(&field.command(who, &create))?;
            samples.push(measure::milliseconds(&field.command(who, &["rm", "-v", "bench-volumes"]))?);
        }
    }
    ENGINES.into_iter().zip(samples).map(|(who, samples)| Figure::new(who, samples)).collect()
}

/// Makes containers until there are 1,000 of them; the two cases below share docker's.
fn have_1000(field: &Field) -> Result<()> {
    for who in ENGINES {
        let present = measure::output(&field.command(who, &["ps", "-aq"]))?.lines().count();
        for _ in present..1000 {
            measure::milliseconds(&field.command(who, &["create", "busybox", "true"]))?;
        }
    }
    Ok(())
}

fn list_1000(field: &Field) -> Result<Vec<Figure>> {
    have_1000(field)?;
    measure::interleaved(7, &ENGINES.map(|who| (who, field.command(who, &["ps", "-a"]))))
}

fn disk_usage(field: &Field) -> Result<Vec<Figure>> {
    have_1000(field)?;
    field.remove_all("ferry")?;
    let run = field.command("ferry", &["run", "-d", "--network", "none", "busybox", "touch", "/file"]);
    (0..1000).try_for_each(|_| measure::milliseconds(&run).map(drop))?;
    let tar = field.root.join("image.tar").display().to_string();
    measure::milliseconds(&field.shell(&format!("tar -C /etc -cf {tar} hostname")))?;
    for who in ENGINES {
        for index in 0..100 {
            let name = format!("bench-image-{index}");
            measure::milliseconds(&field.command(who, &["import", &tar, &name]))?;
        }
    }
    let figures = measure::interleaved(5, &ENGINES.map(|who| (who, field.command(who, &["system", "df"]))));
    for who in ENGINES {
        field.remove_all(who)?;
        let images: Vec<String> = (0..100).map(|index| format!("bench-image-{index}")).collect();
        let words: Vec<&str> = ["rmi"].into_iter().chain(images.iter().map(String::as_str)).collect();
        measure::milliseconds(&field.command(who, &words))?;
    }
    figures
}
