/// The command line entry point.
@main
struct Step3Command {
  static func main() {}
}
