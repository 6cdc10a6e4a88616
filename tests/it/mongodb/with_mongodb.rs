//! What the tests with a server share: a project with a warehouse and a database.

mod faults;
mod landing;
mod landing_kills;
mod resume;
mod types;
mod windows;

use crate::support::mongodb::Database;
use crate::support::mornings::Mornings;
use crate::support::project::Project;

/// A project whose pipeline `days` reads the connection `mongo`.
pub struct Bench {
    pub mornings: Mornings,
    pub database: Database,
}

impl Bench {
    /// A project with this pipeline.
    pub fn new(pipeline: &str) -> Self {
        Self::with(pipeline, "")
    }

    /// The same with further connections.
    pub fn with(pipeline: &str, connections: &str) -> Self {
        let (project, database) = (Project::empty(), Database::new());
        project.write("haul.toml", "warehouse = \"warehouse\"\n");
        let bench = Self { mornings: Mornings { project }, database };
        let mongo = bench.database.connection("mongo");
        bench.connect(&format!("{mongo}\n{connections}"));
        bench.write(pipeline);
        bench
    }

    pub fn project(&self) -> &Project {
        &self.mornings.project
    }

    /// Gives the project these connections besides its warehouse.
    pub fn connect(&self, connections: &str) {
        let warehouse = "[warehouse]\ntype = \"duckdb\"\npath = \"warehouse.duckdb\"\n";
        self.project().write("connections.toml", &format!("{warehouse}\n{connections}\n"));
    }

    /// Makes this the pipeline.
    pub fn write(&self, pipeline: &str) {
        self.project().write("pipelines/days.toml", pipeline);
    }
}
