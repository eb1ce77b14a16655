using System.Globalization;

namespace HeapApp;

internal sealed class Node(Node? left, Node? right, int number)
{
    public Node? Left { get; } = left;

    public Node? Right { get; } = right;

    public int Number { get; } = number;

    public string Name { get; } = number.ToString(CultureInfo.InvariantCulture);

    public byte[] Bytes { get; } = new byte[number % 100];

    public static Node? Grow(int depth)
    {
        int number = 0;
        Node? Branch(int levels) => levels == 0 ? null : new Node(Branch(levels - 1), Branch(levels - 1), number++);
        return Branch(depth);
    }
}
