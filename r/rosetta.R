# The R half of the contract: what python/rosetta/worker/r.py calls in R.

#' quit() would end the process with code 0, as if all were well.
forbid_quit <- function() {
  refuse <- function(...) stop("quit() was called; a leg may not end its process", call. = FALSE)
  for (name in c("quit", "q")) {
    unlockBinding(name, baseenv())
    assign(name, refuse, envir = baseenv())
    lockBinding(name, baseenv())
  }
}

#' The functions of a leg's file, in an environment of their own; source() in it starts from its folder.
open_leg <- function(file) {
  leg <- new.env(parent = globalenv())
  sys.source(file, leg, chdir = TRUE, keep.source = TRUE)
  leg
}

#' A zeroed vector, or an array where there are several dimensions. The caller fills its memory.
allocate <- function(mode, dimensions) {
  array <- vector(mode, prod(dimensions))
  if (length(dimensions) > 1L) dim(array) <- dimensions
  array
}

#' Calls f. rpy2 keeps of an error no more than its text, so errors come back as values.
#'
#' @return list(value), or list(NULL, "class: message" on one line, traceback, "error" or "interrupt").
attempt <- function(f, ...) {
  calls <- NULL
  failure <- function(condition, kind) {
    message <- gsub("[[:space:]]*\n[[:space:]]*", " ", conditionMessage(condition))
    text <- paste0(class(condition)[1L], ": ", message)
    list(NULL, text, paste(traceback_lines(calls), collapse = "\n"), kind)
  }
  tryCatch(
    withCallingHandlers(
      list(f(...)),
      # Here the calls still stand; where tryCatch has the error they are gone.
      error = function(condition) {
        # After a stack overflow there is no room to look, and nothing to see.
        if (!inherits(condition, "stackOverflowError")) calls <<- sys.calls()
      }
    ),
    error = function(condition) failure(condition, "error"),
    interrupt = function(condition) list(NULL, "interrupt: Ctrl-C", "", "interrupt")
  )
}

#' The calls inside f, innermost last: file, line and the call's first line.
traceback_lines <- function(calls, most = 20L) {
  name <- vapply(calls, function(call) deparse(call[[1L]], nlines = 1L)[1L], "")
  # In front stands what attempt() called, behind it the handler of the error.
  inside <- seq_along(calls) > match("withCallingHandlers", name, 0L) + 1L
  handler <- seq_along(calls) == length(calls) | name %in% c(".handleSimpleError", "h")
  lines <- vapply(calls[inside & !handler], call_line, "")
  utils::tail(lines, most)
}

#' One call of a traceback: file, line, and the first line of its text.
call_line <- function(call) {
  place <- attr(call, "srcref")
  text <- deparse(call, width.cutoff = 120L, nlines = 1L)[1L]
  if (is.null(place)) return(paste0("  ", text))
  file <- basename(attr(place, "srcfile")$filename)
  paste0("  ", file, ":", place[1L], "  ", text)
}

#' R's version, the file of its BLAS and that of its LAPACK.
versions <- function() {
  c(as.character(getRversion()), extSoftVersion()[["BLAS"]], La_library())
}

#' Versions of the packages that are loaded, but for those that come with R.
package_versions <- function() {
  loaded <- loadedNamespaces()
  own <- loaded[is.na(vapply(loaded, function(name) utils::packageDescription(name)$Priority %||% NA_character_, ""))]
  vapply(own, function(name) as.character(utils::packageVersion(name)), "")
}

#' `value`, or `otherwise` where there is none; in base R since 4.4.
`%||%` <- function(value, otherwise) if (is.null(value)) otherwise else value

# Arrays of a leg that drives a Python library: they stay Python's, and R holds references.

#' A reference to the array that python/rosetta/worker/r.py has put into its module.
take_over <- function() reticulate::import("rosetta_handover", convert = FALSE)$value

#' The other way round.
hand_back <- function(value) {
  handover <- reticulate::import("rosetta_handover", convert = FALSE)
  handover$value <- value
  invisible(NULL)
}

#' TRUE where a value is Python's and stays so: it is handed back by reference.
is_python <- function(value) inherits(value, "python.builtin.object")

#' From 1.43 on, reticulate's finalizer takes Python's lock on the main thread at the end and never gives it back, while rpy2's
#' end of R waits for it. The function that takes it is all that is replaced: R's finalizers still run.
#' And its thread asks Python every half second to call back, also when there is no Python left: SIGSEGV where libraries take
#' long to unload. py_finalize() stops the thread, and does nothing else in a process that Python started.
let_reticulate_end <- function() {
  if (!"reticulate" %in% loadedNamespaces()) return(invisible(NULL))
  if (exists("py_allow_threads_impl", asNamespace("reticulate"), inherits = FALSE)) {
    utils::assignInNamespace("py_allow_threads_impl", function(allow = TRUE) invisible(FALSE), "reticulate")
  }
  utils::getFromNamespace("py_finalize", "reticulate")()
  invisible(NULL)
}
