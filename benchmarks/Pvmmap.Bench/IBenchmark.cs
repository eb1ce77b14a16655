namespace Pvmmap.Bench;

/// <summary>One thing that ./bench can measure.</summary>
internal interface IBenchmark
{
    string Name { get; }

    /// <summary>One line for --list.</summary>
    string Description { get; }

    /// <param name="say">Told what is being measured, for who looks on.</param>
    /// <param name="interrupted">Asked between two steps.</param>
    BenchReport Run(Action<string> say, CancellationToken interrupted);
}
