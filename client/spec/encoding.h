// What is checked of a text before it is read as YAML.
#pragma once

#include <cstddef>

#include "absl/strings/string_view.h"
#include "client/spec/parse.h"

namespace orch::spec {

// UTF-8 without control characters other than tab and line ends. False: `*problem` says where and why.
bool CheckEncoding(absl::string_view text, Problem* problem);

// The first byte of the character with this number (from 0) in valid UTF-8; 0 beyond the end.
char CharacterAt(absl::string_view text, size_t character);

}  // namespace orch::spec
