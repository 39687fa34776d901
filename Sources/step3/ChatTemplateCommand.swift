import CommandLineInterface
import Tokenization

/// `step3 chat-template`: the chat template in use.
struct ChatTemplateCommand: Command {
  static let specification = CommandSpecification(
    "chat-template", abstract: "Show the chat template of a checkpoint.",
    example: "step3 chat-template --show --model DIR", takesModel: true,
    flags: [.toggle("show", default: true, help: "print the template, and where it comes from")])

  static func run(_ arguments: ParsedArguments) throws {
    let template = try ChatTemplate(directory: arguments.model)
    switch template.origin {
    case .file(let name): arguments.log.info("from \(name)")
    case .step3Default: arguments.log.info("the checkpoint has none: this is Step3's default")
    case .source: break
    }
    if arguments.isOn("show") { StandardOutput.write(template.source + "\n") }
  }
}
