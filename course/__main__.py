"""`python -m course`: the commands of the course."""

from course.cli import main

if __name__ == "__main__":
    main()
