//! `build --verify`: the same build once more, without the cache, must give the same image.

use ferry_api::Call;
use serde_json::{Value, json};

use super::build_screen::{self, Form, Shown};
use crate::failure::Failure;
use crate::output;
use crate::session::Session;

/// Builds again and compares; layers that differ are named with what made them.
pub async fn verify(
    session: &Session,
    call: Call,
    request: &Value,
    id: &str,
    shown: &Shown,
) -> Result<(), Failure> {
    let mut request = request.clone();
    // What was found elsewhere is not looked up again, and names stay with the first image.
    request["CacheTo"] = Value::Null;
    request["Unnamed"] = json!(true);
    let answer = session.engine().await?.call(call.query("nocache", "1").json(&request)).await?;
    let again = match build_screen::show(answer, &Shown { form: Form::Quiet, ..*shown }).await? {
        Ok(built) => built.id,
        Err(broken) => return Err(broken.failure().context("the second build failed")),
    };
    if again == id {
        output::note("verified: both builds gave the same image");
        return Ok(());
    }
    let first = layers(session, id).await?;
    let second = layers(session, &again).await?;
    let mut message = format!("the builds differ: {id} and {again}");
    for (index, (step, layer)) in first.iter().enumerate() {
        if second.get(index).is_none_or(|(_, other)| other != layer) {
            message.push_str(&format!("\n  {step}"));
        }
    }
    Err(Failure::new(message).hint("look for times, random numbers and downloads in these steps"))
}

/// Each layer with the step that made it.
async fn layers(session: &Session, id: &str) -> Result<Vec<(String, String)>, Failure> {
    let engine = session.engine().await?;
    let path = |rest: &str| format!("/images/{}/{rest}", Call::segment(id));
    let image: Value = engine.call(Call::get(path("json"))).await?.json().await?;
    let history: Value = engine.call(Call::get(path("history"))).await?.json().await?;
    // Newest first; lines without a layer have no size, and so may a layer: then its step has no name here.
    let steps = history.as_array().into_iter().flatten().rev();
    let mut steps = steps.filter(|line| line["Size"].as_i64().unwrap_or(0) > 0);
    let layers = image["RootFS"]["Layers"].as_array().into_iter().flatten();
    Ok(layers
        .map(|layer| {
            let step = steps.next().and_then(|line| line["CreatedBy"].as_str()).unwrap_or("a layer");
            (step.to_owned(), layer.as_str().unwrap_or_default().to_owned())
        })
        .collect())
}
