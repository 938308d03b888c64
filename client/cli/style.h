// Colours, and text made fit for a terminal.
#pragma once

#include <string>

#include "absl/strings/string_view.h"
#include "orch/v1/run.pb.h"

namespace orch::cli {

enum class Color { kNone, kBold, kDim, kRed, kGreen, kYellow, kBlue, kCyan };

// Whether one stream takes colours. Cheap to copy.
class Style {
 public:
  Style() = default;
  explicit Style(bool color) : color_(color) {}
  // Colours only on a terminal, and not if forbidden by flag, NO_COLOR or TERM=dumb.
  static Style For(int fd, bool no_color);
  bool color() const { return color_; }
  std::string Paint(absl::string_view text, Color color) const;

 private:
  bool color_ = false;
};

Color ColorOf(v1::Run::State state);
Color ColorOf(v1::Step::State state);

// Terminal columns that `text` takes (UTF-8; wide characters take two).
int Width(absl::string_view text);
// `text` cut to `columns`, with `…` if something was lost.
std::string Fit(absl::string_view text, int columns);
// Control characters and broken UTF-8 replaced: what a step or a name holds must not steer the terminal. Newlines and
// tabs become blanks.
std::string Clean(absl::string_view text);

}  // namespace orch::cli
