using System.Text.RegularExpressions;
using Microsoft.CodeAnalysis;
using Microsoft.CodeAnalysis.CSharp;
using Xunit;

namespace Pvmmap.Tests;

/// <summary>The C# in the documents compiles, each piece as a program of its own: what it does not declare is one of a few names that say what they are.</summary>
public sealed partial class DocumentSnippetTests
{
    private const string Given = """
        global using System;
        global using System.Collections.Generic;
        global using System.IO;
        global using System.Linq;
        global using System.Threading;
        global using System.Threading.Tasks;
        global using static Given;

        internal static class Given
        {
            public static int pid, sourcePid, targetPid, keeperPid;
            public static ulong address, length, remoteAddress;
        }
        """;

    private static readonly CSharpParseOptions s_language = new(LanguageVersion.Latest);

    private static readonly MetadataReference[] s_references =
        [.. ((string)AppContext.GetData("TRUSTED_PLATFORM_ASSEMBLIES")!).Split(':').Select(path => MetadataReference.CreateFromFile(path))];

    [Theory]
    [InlineData("README.md", 2)]
    [InlineData("process_vm_mmap.2.md", 1)]
    [InlineData("snapshots.md", 7)]
    public void Each_piece_of_a_document_compiles(string document, int least)
    {
        string text = File.ReadAllText(Path.Combine(AppContext.BaseDirectory, "docs", document));
        string[] pieces = [.. Piece().Matches(text).Select(match => match.Groups[1].Value)];
        Assert.True(pieces.Length >= least, $"only {pieces.Length} pieces of C# in {document}");
        Assert.All(pieces, piece => Assert.Equal("", ErrorsOf(piece)));
    }

    [Fact]
    public void What_the_library_does_not_have_is_found() =>
        Assert.Contains("CaptureAll", ErrorsOf("using Pvmmap.Snapshots;\nProcessSnapshot.CaptureAll(pid);\n"), StringComparison.Ordinal);

    private static string ErrorsOf(string piece)
    {
        CSharpCompilation compilation = CSharpCompilation.Create(
            "Piece",
            [CSharpSyntaxTree.ParseText(piece, s_language, cancellationToken: TestContext.Current.CancellationToken), CSharpSyntaxTree.ParseText(Given, s_language, cancellationToken: TestContext.Current.CancellationToken)],
            s_references,
            new CSharpCompilationOptions(OutputKind.ConsoleApplication, allowUnsafe: true, nullableContextOptions: NullableContextOptions.Enable));
        return string.Join('\n', compilation.GetDiagnostics(TestContext.Current.CancellationToken)
            .Where(found => found.Severity is DiagnosticSeverity.Error or DiagnosticSeverity.Warning && found.Location.SourceTree == compilation.SyntaxTrees[0])
            .Select(found => $"{found}: {piece.Split('\n')[found.Location.GetLineSpan().StartLinePosition.Line]}"));
    }

    [GeneratedRegex(@"^```csharp\n(.*?)^```$", RegexOptions.Singleline | RegexOptions.Multiline)]
    private static partial Regex Piece();
}
