// What a program's start alone has touched.
#pragma once

namespace orch {

// Gives back the pages of code and constants that start-up has mapped: most are never needed again, and what is comes
// back from the page cache by itself, once, in about a millisecond altogether. Any thread; fails silently, since
// nothing depends on it.
void ReleaseStartupPages();

}  // namespace orch
