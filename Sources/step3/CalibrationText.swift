/// The text that shows what rounding does where the user gives none: written for this project, a
/// little of everything that a model is asked to read.
enum CalibrationText {
  /// Changes whenever the text does: results depend on it.
  static let identity = "built-in 1"

  static let text = """
    The harbour master kept two books. In the first he wrote the name of every ship that came in, \
    the hour, the tide, and what she carried; in the second, which he showed to nobody, what the \
    captains said about the weather. After thirty years the second book was the better one. \
    Fishermen who laughed at the printed forecast came to his door before dawn and asked whether \
    the wind would turn.

    A glacier is a body of ice that moves under its own weight. It forms where more snow falls in \
    winter than melts in summer, so that old layers are pressed together and slowly lose their \
    air. Most of the fresh water on Earth is stored this way; when it melts, the level of the sea \
    rises.

    Question: A train leaves at 9:40 and needs 2 hours and 35 minutes. When does it arrive?
    Answer: At 12:15. From 9:40 to 11:40 are two hours, and 35 minutes more make 12:15.

    def mean(values):
        total = 0.0
        for value in values:
            total += value
        return total / len(values)

    buffer (noun): a region of memory that holds data while it is moved from one place to another, \
    because the two sides do not work at the same speed.

    "You could have told me," she said. "I did," he answered, "twice, but you were reading." They \
    both looked at the empty plate, then at the dog.

    To install the program, unpack the archive, open a terminal in the new folder and type \
    `make install`. If an error appears, check that the compiler is newer than version 11 and that \
    at least 2 GB of disk space are free. Settings live in a file named config.json; lines that \
    begin with # are comments.
    """
}
