//! Other software, another configuration, another parent: KMS gives none of them the key.

use std::fs;
use std::path::Path;

use nodeseal_harness::{Context, EnclaveMachine, Error, MachineOptions, Result, Table};

use crate::images::Image;
use crate::setup::{MARK, World, parent};

/// Tries each, and at the end that the genuine still opens.
pub fn play(table: &mut Table, world: &World) -> Result<()> {
    table.step("an image with one changed byte of configuration", || {
        let config = world.cloud.path("changed-config");
        changed(&world.config(), &config)?;
        let image = world.images.build("changed", &config, &[])?;
        differs(&image, &world.genuine, [true, false, true])?;
        refused(world, "changed", &image, &parent())
    })?;
    table.step("an image with another program and the same kernel", || {
        let image = world.images.build_other_program("other", &world.config())?;
        differs(&image, &world.genuine, [true, true, false])?;
        refused(world, "other", &image, &parent())
    })?;
    table.step("the image on a parent with another role", || {
        let role = Some("arn:aws:iam::111122223333:role/someone".to_owned());
        let options = MachineOptions {
            parent_role: role,
            ..parent()
        };
        refused(world, "role", &world.genuine, &options)
    })?;
    table.step("the image on another parent", || {
        let id = Some("i-00000000000000000".to_owned());
        let options = MachineOptions {
            parent_id: id,
            ..parent()
        };
        refused(world, "parent", &world.genuine, &options)
    })?;
    table.step(
        "the image under another name: the name is not measured",
        || {
            let image = world.images.build("renamed", &world.config(), &[])?;
            differs(&image, &world.genuine, [false, false, false])?;
            let machine = EnclaveMachine::ready(&world.tools, &image.path, &parent())?;
            let agent = world.agent_on("renamed-node", &machine)?;
            agent
                .run(["open", "--check", "nodekey"])?
                .success("nodeseal open")?;
            Ok(((), "opens: the same software".to_owned()))
        },
    )?;
    table.step("the genuine image on the genuine parent", || {
        world
            .agent
            .run(["open", "--check", "nodekey"])?
            .success("nodeseal open")?;
        Ok(((), "opens".to_owned()))
    })?;
    table.step("nodeseal audit verify", || {
        world
            .agent
            .run(["audit", "verify"])?
            .success("audit verify")?;
        Ok(((), "chain and head hold".to_owned()))
    })
}

/// Boots `image` so and expects that KMS refuses it the node's key.
fn refused(
    world: &World,
    name: &str,
    image: &Image,
    options: &MachineOptions,
) -> Result<((), String)> {
    let machine = EnclaveMachine::ready(&world.tools, &image.path, options)?;
    let agent = world.agent_on(&format!("{name}-node"), &machine)?;
    agent.refused("nodekey", 3, "kms-access-denied")
}

/// Expects that PCR0, PCR1 and PCR2 differ where `expected` says so.
fn differs(image: &Image, genuine: &Image, expected: [bool; 3]) -> Result<()> {
    for (index, expected) in (0..).zip(expected) {
        if (image.pcr(index)? != genuine.pcr(index)?) != expected {
            let how = if expected { "the same" } else { "another" };
            return Err(Error::new(format!("PCR{index} is {how}")));
        }
    }
    Ok(())
}

/// Copies a configuration with one byte of a comment, which nothing ever reads, changed.
fn changed(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to).context(to.display())?;
    for entry in fs::read_dir(from).context(from.display())? {
        let path = entry.context(from.display())?.path();
        let name = path.file_name().unwrap_or_default();
        let mut content = fs::read(&path).context(path.display())?;
        if name == "nodeseal-enclave.toml" {
            let mark = content.iter().position(|byte| *byte == MARK as u8);
            let mark = mark.and_then(|at| content.get_mut(at));
            *mark.ok_or_else(|| Error::new("the configuration has no mark"))? ^= 1;
        }
        let to = to.join(name);
        fs::write(&to, content).context(to.display())?;
    }
    Ok(())
}
