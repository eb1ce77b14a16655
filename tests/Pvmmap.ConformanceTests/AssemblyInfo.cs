using System.Runtime.Versioning;
using Pvmmap.ConformanceTests.Stage;
using Xunit.Sdk;
using Xunit.v3;

[assembly: AssemblyFixture(typeof(Theatre))]
// Real processes are stopped, counted and measured here: one test at a time.
[assembly: Parallelization(Mode = ParallelMode.None)]
[assembly: SupportedOSPlatform("linux")]
